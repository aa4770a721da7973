"""StyleGAN3's synthesis in plain torch, as the paper and the release state it (Karras et al. 2021).

Written from the equations: the geometry of layers and the design of their filters, per-sample
weights applied by one grouped convolution, zeros inserted, one depthwise convolution an axis (or a
square one for a radial filter), every second pixel kept. It shares no code with
`teacher/networks/stylegan3.py`; on GPUs the release runs the filters as a CUDA kernel of its own,
which this does not have.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

State = Mapping[str, Tensor]
"""Tensors by the names of the checkpoints."""
TAPS = 6
FIRST_CUTOFF = 2.0
FIRST_STOPBAND = 2**2.1
LAST_STOPBAND = 2**0.3


@dataclass(frozen=True)
class LayerGeometry:
    """What one layer does to its map (app. C); rates and frequencies are per image side."""

    in_size: int
    out_size: int
    in_rate: int
    out_rate: int
    in_cutoff: float
    out_cutoff: float
    in_half_width: float
    out_half_width: float
    in_channels: int
    out_channels: int
    kernel: int
    is_torgb: bool
    is_radial: bool

    @property
    def tmp_rate(self) -> int:
        """At which the nonlinearity is applied."""
        return max(self.in_rate, self.out_rate) * (1 if self.is_torgb else 2)

    @property
    def up(self) -> int:
        """Factor of the rate before the nonlinearity."""
        return self.tmp_rate // self.in_rate

    @property
    def down(self) -> int:
        """Factor of the rate after it."""
        return self.tmp_rate // self.out_rate

    @property
    def up_taps(self) -> int:
        """Of the first filter; 1 where there is none."""
        return 1 if self.is_torgb or self.up == 1 else TAPS * self.up

    @property
    def down_taps(self) -> int:
        """Of the second filter."""
        return 1 if self.is_torgb or self.down == 1 else TAPS * self.down

    @property
    def padding(self) -> tuple[int, int]:
        """Zeros before and after the raised map; negative: pixels cut off."""
        total = (self.out_size - 1) * self.down + 1 + self.up_taps + self.down_taps - 2
        total -= (self.in_size + self.kernel - 1) * self.up
        low = (total + self.up) // 2
        return low, total - low

    def filters(self) -> tuple[Tensor | None, Tensor | None]:
        """Before and after the nonlinearity, each with sum 1."""
        rate = self.tmp_rate
        return (
            design_filter(self.up_taps, self.in_cutoff, self.in_half_width, rate),
            design_filter(
                self.down_taps, self.out_cutoff, self.out_half_width, rate, self.is_radial
            ),
        )


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """A synthesis network: what is chosen, and what follows from it (section 3.2, app. C)."""

    resolution: int
    channel_base: int
    channel_max: int
    num_layers: int = 14
    num_critical: int = 2
    margin: int = 10
    kernel: int = 3
    is_radial: bool = False
    image_channels: int = 3

    @cached_property
    def layers(self) -> list[LayerGeometry]:
        """All layers; that of the image is the last."""
        side, last = self.resolution, self.num_layers
        steps = np.arange(last + 1)
        exponents = np.minimum(steps / (last - self.num_critical), 1)
        cutoffs = FIRST_CUTOFF * (side / 2 / FIRST_CUTOFF) ** exponents
        stopbands = FIRST_STOPBAND * (side / 2 * LAST_STOPBAND / FIRST_STOPBAND) ** exponents
        rates = np.exp2(np.ceil(np.log2(np.minimum(stopbands * 2, side)))).astype(int)
        half_widths = np.maximum(stopbands, rates / 2) - cutoffs
        sizes = rates + 2 * self.margin
        sizes[-2:] = side
        widths = np.rint(np.minimum(self.channel_base / 2 / cutoffs, self.channel_max)).astype(int)
        widths[-1] = self.image_channels
        return [
            LayerGeometry(
                in_size=int(sizes[before]),
                out_size=int(sizes[index]),
                in_rate=int(rates[before]),
                out_rate=int(rates[index]),
                in_cutoff=float(cutoffs[before]),
                out_cutoff=float(cutoffs[index]),
                in_half_width=float(half_widths[before]),
                out_half_width=float(half_widths[index]),
                in_channels=int(widths[before]),
                out_channels=int(widths[index]),
                kernel=1 if index == last else self.kernel,
                is_torgb=index == last,
                is_radial=self.is_radial and index < last - self.num_critical,
            )
            for index in steps.tolist()
            for before in [max(index - 1, 0)]
        ]

    @property
    def names(self) -> list[str]:
        """Of the layers, as checkpoints have them."""
        return [f"L{i}_{x.out_size}_{x.out_channels}" for i, x in enumerate(self.layers)]


def design_filter(
    taps: int, cutoff: float, half_width: float, rate: float, is_radial: bool = False
) -> Tensor | None:
    """Low-pass of a Kaiser window (app. C): [taps], or radial [taps, taps], float32 with sum 1."""
    if taps == 1:
        return None
    places = np.arange(taps) - (taps - 1) / 2
    width = 2 * half_width / (rate / 2)
    attenuation = 2.285 * (taps - 1) * math.pi * width + 7.95
    beta = 0.0
    if attenuation > 50:
        beta = 0.1102 * (attenuation - 8.7)
    elif attenuation > 21:
        beta = 0.5842 * (attenuation - 21) ** 0.4 + 0.07886 * (attenuation - 21)
    window = np.i0(beta * np.sqrt(1 - (2 * places / (taps - 1)) ** 2)) / np.i0(beta)
    if not is_radial:
        kernel = window * np.sinc(2 * cutoff * places / rate)
    else:
        radius = np.hypot(*np.meshgrid(places, places)) / rate
        bessel = torch.special.bessel_j1(torch.from_numpy(2 * math.pi * cutoff * radius)).numpy()
        kernel = bessel / (math.pi * radius) * np.outer(window, window)
    return torch.from_numpy(kernel / kernel.sum()).float()


def synthesise(
    geometry: Geometry, state: State, ws: Tensor, clamp: float | None, output_scale: float = 0.25
) -> tuple[Tensor, dict[str, Tensor]]:
    """Image [B, C, R, R] and the output of the input and of every layer, of `ws`
    [B, num_layers + 2, w_dim], in the type of `state` and with its names.
    """
    first = geometry.layers[0]
    x = _fourier_features(first, state, ws[:, 0])
    features = {"synthesis.input": x}
    for index, (name, layer) in enumerate(zip(geometry.names, geometry.layers, strict=True), 1):
        x = _layer(layer, state, f"synthesis.{name}", x, ws[:, index], clamp)
        features[f"synthesis.{name}"] = x
    return x * output_scale, features


def _linear(state: State, name: str, x: Tensor) -> Tensor:
    weight = state[f"{name}.weight"]
    return F.linear(x, weight / math.sqrt(weight.shape[1]), state[f"{name}.bias"])


def _fourier_features(first: LayerGeometry, state: State, w: Tensor) -> Tensor:
    t = _linear(state, "synthesis.input.affine", w)
    t = t / t[:, :2].norm(dim=1, keepdim=True)
    rotation = torch.eye(3, dtype=w.dtype, device=w.device).repeat(len(w), 1, 1)
    translation = rotation.clone()
    rotation[:, 0, 0] = rotation[:, 1, 1] = t[:, 0]
    rotation[:, 0, 1], rotation[:, 1, 0] = -t[:, 1], t[:, 1]
    translation[:, :2, 2] = -t[:, 2:]
    matrix = rotation @ translation @ state["synthesis.input.transform"]
    freqs, phases = state["synthesis.input.freqs"], state["synthesis.input.phases"]
    phases = phases + (freqs @ matrix[:, :2, 2:]).squeeze(2)
    freqs = freqs @ matrix[:, :2, :2]
    fading = (freqs.norm(dim=2) - first.in_cutoff) / (first.in_rate / 2 - first.in_cutoff)
    places = torch.arange(first.in_size, dtype=w.dtype, device=w.device) + 0.5 - first.in_size / 2
    places = places / first.in_rate
    down, across = torch.meshgrid(places, places, indexing="ij")
    angle = across[..., None] * freqs[:, None, None, :, 0]
    angle = angle + down[..., None] * freqs[:, None, None, :, 1] + phases[:, None, None]
    x = (2 * math.pi * angle).sin() * (1 - fading).clamp(0, 1)[:, None, None]
    weight = state["synthesis.input.weight"]
    return F.linear(x, weight / math.sqrt(weight.shape[1])).permute(0, 3, 1, 2)


def _layer(
    layer: LayerGeometry, state: State, name: str, x: Tensor, w: Tensor, clamp: float | None
) -> Tensor:
    weight = state[f"{name}.weight"]
    style = _linear(state, f"{name}.affine", w)
    if layer.is_torgb:
        weights = weight * (style / math.sqrt(weight[0].numel()))[:, None, :, None, None]
    else:
        weight = weight * weight.square().mean((1, 2, 3), keepdim=True).rsqrt()
        style = style * style.square().mean().rsqrt()
        weights = weight * style[:, None, :, None, None]
        weights = weights * (weights.square().sum((2, 3, 4), keepdim=True) + 1e-8).rsqrt()
    weights = weights * state[f"{name}.magnitude_ema"].rsqrt()
    batch, _, side, _ = x.shape
    x = F.conv2d(
        x.reshape(1, -1, side, side),
        weights.flatten(0, 1),
        padding=layer.kernel - 1,
        groups=batch,
    )
    x = x.reshape(batch, -1, *x.shape[2:]) + state[f"{name}.bias"][:, None, None]
    x = _filter(_insert_zeros(x, layer), state.get(f"{name}.up_filter"), layer.up)
    x = x if layer.is_torgb else F.leaky_relu(x, 0.2) * math.sqrt(2)
    x = x if clamp is None else x.clamp(-clamp, clamp)
    x = _filter(x, state.get(f"{name}.down_filter"), 1)
    return x[:, :, :: layer.down, :: layer.down]


def _insert_zeros(x: Tensor, layer: LayerGeometry) -> Tensor:
    """`up` - 1 zeros after every pixel, then the padding."""
    batch, channels, side, _ = x.shape
    up, (before, after) = layer.up, layer.padding
    x = F.pad(x.reshape(batch, channels, side, 1, side, 1), [0, up - 1, 0, 0, 0, up - 1])
    x = x.reshape(batch, channels, side * up, side * up)
    return F.pad(x, [before, after, before, after])


def _filter(x: Tensor, taps: Tensor | None, gain: int) -> Tensor:
    """Convolution of every channel, with `gain` along each axis."""
    if taps is None:
        return x
    channels = x.shape[1]
    if taps.dim() == 2:
        kernel = (taps * gain**2).flip(0, 1).expand(channels, 1, -1, -1)
        return F.conv2d(x, kernel, groups=channels)
    kernel = (taps * gain).flip(0).expand(channels, 1, 1, -1)
    x = F.conv2d(x, kernel, groups=channels)
    return F.conv2d(x, kernel.mT, groups=channels)

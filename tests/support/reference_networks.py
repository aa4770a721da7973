"""A plain, slow StyleGAN2-ADA in float64, written from the papers and the design notes alone.

It takes a state dict with the official PyTorch names and shares no code with the networks it is
there to check: weights are modulated sample by sample, resampling inserts zeros, pads and
correlates with the flipped filter, and nothing is folded or reordered. Widths are read off the
tensors. N samples, C channels, [H, W] pixels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

State = Mapping[str, Tensor]
Skips = Literal["orig", "skip", "resnet"]

BINOMIAL = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=torch.float64)
FILTER = torch.outer(BINOMIAL, BINOMIAL) / 64
SQRT_HALF = math.sqrt(0.5)


@dataclass(frozen=True, kw_only=True)
class ReferenceArchitecture:
    """What the tensors of a generator and its discriminator do not say about them."""

    resolution: int = 16
    z_dim: int = 16
    num_classes: int = 0
    generator_skips: Skips = "skip"
    generator_clamp: float | None = None
    mapping_layers: int = 2
    mapping_lr_mult: float = 0.01
    discriminator_skips: Skips = "orig"
    discriminator_clamp: float | None = None
    discriminator_mapping_layers: int = 8
    discriminator_mapping_lr_mult: float = 0.01
    mbstd_group_size: int | None = 4

    @property
    def block_resolutions(self) -> list[int]:
        return [2**k for k in range(2, int(math.log2(self.resolution)) + 1)]

    @property
    def num_ws(self) -> int:
        return 2 * int(math.log2(self.resolution)) - 2


def reference_outputs(
    architecture: ReferenceArchitecture,
    generator: State,
    discriminator: State | None,
    z: np.ndarray,
    *,
    labels: np.ndarray | None = None,
    noise: str = "const",
    truncation_psi: float = 1.0,
    truncation_cutoff: int | None = None,
) -> dict[str, np.ndarray]:
    """Everything both networks make of `z` [N, z_dim], by the names `inspect_latents` uses."""
    latents = torch.from_numpy(z).double()
    classes = None if labels is None else torch.from_numpy(labels).double()
    ws = map_latents(architecture, generator, latents, classes, truncation_psi, truncation_cutoff)
    image, features = synthesize(architecture, generator, ws, noise)
    found = {"z": latents, "ws": ws, "image": image}
    found |= {f"pooled.synthesis.{name}": pool(x) for name, x in features.items()}
    if discriminator is not None:
        found |= discriminate(architecture, discriminator, image, classes)
    return {name: tensor.numpy() for name, tensor in found.items()}


def pool(x: Tensor) -> Tensor:
    return x.mean(dim=(2, 3))


def map_latents(
    architecture: ReferenceArchitecture,
    state: State,
    z: Tensor,
    labels: Tensor | None,
    truncation_psi: float = 1.0,
    truncation_cutoff: int | None = None,
) -> Tensor:
    """`ws` [N, num_ws, w_dim]."""
    x = normalise(z)
    if architecture.num_classes:
        x = torch.cat([x, embed_labels(state, labels)], dim=1)
    w = map_features(state, x, architecture.mapping_layers, architecture.mapping_lr_mult)
    ws = torch.stack([w] * architecture.num_ws, dim=1)
    cutoff = architecture.num_ws if truncation_cutoff is None else truncation_cutoff
    average = state["mapping.w_avg"].double()
    ws[:, :cutoff] = average + truncation_psi * (ws[:, :cutoff] - average)
    return ws


def embed_labels(state: State, labels: Tensor | None) -> Tensor:
    assert labels is not None
    return normalise(fully_connected(state, "mapping.embed", labels))


def map_features(state: State, x: Tensor, num_layers: int, lr_mult: float) -> Tensor:
    for index in range(num_layers):
        x = leaky_relu(fully_connected(state, f"mapping.fc{index}", x, lr_mult)) * math.sqrt(2)
    assert f"mapping.fc{num_layers}.weight" not in state
    return x


def normalise(x: Tensor) -> Tensor:
    return x / torch.sqrt((x**2).mean(dim=1, keepdim=True) + 1e-8)


def fully_connected(state: State, name: str, x: Tensor, lr_mult: float = 1.0) -> Tensor:
    weight, bias = state[f"{name}.weight"].double(), state[f"{name}.bias"].double()
    return x @ (weight * lr_mult / math.sqrt(weight.shape[1])).T + bias * lr_mult


def leaky_relu(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, 0.2 * x)


def filter_between(
    x: Tensor, *, up: int = 1, padding: tuple[int, int] = (0, 0), down: int = 1, gain: float = 1.0
) -> Tensor:
    """Insert up - 1 zeros after each pixel, pad (before, after), filter, keep each `down`-th."""
    n, c, height, width = x.shape
    spread = x.new_zeros(n, c, height * up, width * up)
    spread[:, :, ::up, ::up] = x
    spread = F.pad(spread, (*padding, *padding))
    kernel = torch.flip(FILTER * gain, dims=(0, 1)).expand(c, 1, 4, 4)
    return F.conv2d(spread, kernel, groups=c)[:, :, ::down, ::down]


def double_image(x: Tensor) -> Tensor:
    return filter_between(x, up=2, padding=(2, 1), gain=4)


def halve_image(x: Tensor) -> Tensor:
    return filter_between(x, down=2, padding=(1, 1))


def synthesize(
    architecture: ReferenceArchitecture, state: State, ws: Tensor, noise: str
) -> tuple[Tensor, dict[str, Tensor]]:
    """The image [N, channels, R, R], unclamped, and the features of each block."""
    start = 0
    x = ws.new_zeros(0)
    image: Tensor | None = None
    features: dict[str, Tensor] = {}
    for resolution in architecture.block_resolutions:
        name = f"synthesis.b{resolution}"
        x = synthesis_block(architecture, state, name, x, ws[:, start:], noise)
        features[f"b{resolution}"] = x
        start += 1 if resolution == 4 else 2
        if image is not None:
            image = double_image(image)
        is_last = resolution == architecture.resolution
        assert (f"{name}.torgb.weight" in state) == (
            is_last or architecture.generator_skips == "skip"
        )
        if f"{name}.torgb.weight" in state:
            rgb = to_rgb(state, f"{name}.torgb", x, ws[:, start], architecture.generator_clamp)
            image = rgb if image is None else image + rgb
    assert image is not None
    return image, features


def synthesis_block(
    architecture: ReferenceArchitecture, state: State, name: str, x: Tensor, ws: Tensor, noise: str
) -> Tensor:
    """`ws` starts with this block's entries."""
    clamp = architecture.generator_clamp
    if name == "synthesis.b4":
        const = state["synthesis.b4.const"].double()
        x = torch.stack([const] * len(ws))
        return synthesis_layer(state, f"{name}.conv1", x, ws[:, 0], noise=noise, clamp=clamp)
    if architecture.generator_skips != "resnet":
        x = synthesis_layer(state, f"{name}.conv0", x, ws[:, 0], noise=noise, clamp=clamp)
        return synthesis_layer(state, f"{name}.conv1", x, ws[:, 1], noise=noise, clamp=clamp)
    weight = state[f"{name}.skip.weight"].double()
    short = double_image(F.conv2d(x, weight / math.sqrt(weight.shape[1]))) * SQRT_HALF
    x = synthesis_layer(state, f"{name}.conv0", x, ws[:, 0], noise=noise, clamp=clamp)
    x = synthesis_layer(
        state, f"{name}.conv1", x, ws[:, 1], noise=noise, clamp=clamp, gain=SQRT_HALF
    )
    return short + x


def synthesis_layer(
    state: State,
    name: str,
    x: Tensor,
    w: Tensor,
    *,
    noise: str,
    clamp: float | None,
    gain: float = 1.0,
) -> Tensor:
    """Modulated 3x3 convolution, upsampling if it is a `conv0`; noise; activation."""
    styles = fully_connected(state, f"{name}.affine", w)
    weight = state[f"{name}.weight"].double()
    made = []
    for sample, style in zip(x, styles, strict=True):
        modulated = weight * style[None, :, None, None]
        length = torch.sqrt((modulated**2).sum(dim=(1, 2, 3), keepdim=True) + 1e-8)
        modulated = modulated / length
        if name.endswith("conv0"):
            spread = F.conv_transpose2d(sample[None], modulated.transpose(0, 1), stride=2)
            made.append(filter_between(spread, padding=(1, 1), gain=4))
        else:
            made.append(F.conv2d(sample[None], modulated, padding=1))
    x = torch.cat(made)
    if noise == "const":
        x = x + state[f"{name}.noise_const"].double() * state[f"{name}.noise_strength"].double()
    return activate(x, state[f"{name}.bias"], gain, clamp)


def to_rgb(state: State, name: str, x: Tensor, w: Tensor, clamp: float | None) -> Tensor:
    weight = state[f"{name}.weight"].double()
    styles = fully_connected(state, f"{name}.affine", w) / math.sqrt(weight.shape[1])
    made = [
        F.conv2d(sample[None], weight * style[None, :, None, None])
        for sample, style in zip(x, styles, strict=True)
    ]
    return limit(torch.cat(made) + state[f"{name}.bias"].double()[:, None, None], clamp)


def activate(x: Tensor, bias: Tensor, gain: float, clamp: float | None) -> Tensor:
    """Bias, leaky ReLU, gain, clamp; the gain of a residual branch also narrows the clamp."""
    shape = (-1, 1, 1) if x.ndim == 4 else (-1,)
    x = leaky_relu(x + bias.double().reshape(shape)) * (math.sqrt(2) * gain)
    return limit(x, None if clamp is None else clamp * gain)


def limit(x: Tensor, clamp: float | None) -> Tensor:
    return x if clamp is None else x.clamp(-clamp, clamp)


def discriminate(
    architecture: ReferenceArchitecture, state: State, image: Tensor, labels: Tensor | None
) -> dict[str, Tensor]:
    """`logits` [N, 1], spatial means of each block's output, and `discriminator.b4.fc`."""
    skips, clamp = architecture.discriminator_skips, architecture.discriminator_clamp
    found: dict[str, Tensor] = {}
    x: Tensor | None = None
    for resolution in architecture.block_resolutions[:0:-1]:
        name = f"b{resolution}"
        sees_image = skips == "skip" or resolution == architecture.resolution
        assert (f"{name}.fromrgb.weight" in state) == sees_image
        if sees_image:
            rgb = conv(state, f"{name}.fromrgb", image, clamp)
            x = rgb if x is None else x + rgb
            image = halve_image(image)
        assert x is not None
        x = discriminator_block(state, name, x, skips, clamp)
        found[f"discriminator.{name}"] = pool(x)
    assert x is not None
    if skips == "skip":
        x = x + conv(state, "b4.fromrgb", image, None)
    x = append_batch_deviation(x, architecture.mbstd_group_size)
    x = conv(state, "b4.conv", x, clamp)
    flat = fully_connected(state, "b4.fc", x.flatten(1)) - state["b4.fc.bias"].double()
    x = activate(flat, state["b4.fc.bias"], 1.0, None)
    found["discriminator.b4.fc"] = x
    out = fully_connected(state, "b4.out", x)
    if architecture.num_classes:
        mapped = map_features(
            state,
            embed_labels(state, labels),
            architecture.discriminator_mapping_layers,
            architecture.discriminator_mapping_lr_mult,
        )
        out = (out * mapped).sum(dim=1, keepdim=True) / math.sqrt(mapped.shape[1])
    found["logits"] = out
    return found


def discriminator_block(
    state: State, name: str, x: Tensor, skips: Skips, clamp: float | None
) -> Tensor:
    if skips != "resnet":
        x = conv(state, f"{name}.conv0", x, clamp)
        return conv(state, f"{name}.conv1", x, clamp, is_down=True)
    weight = state[f"{name}.skip.weight"].double()
    short = F.conv2d(halve_image(x), weight / math.sqrt(weight.shape[1])) * SQRT_HALF
    x = conv(state, f"{name}.conv0", x, clamp)
    return short + conv(state, f"{name}.conv1", x, clamp, is_down=True, gain=SQRT_HALF)


def conv(
    state: State,
    name: str,
    x: Tensor,
    clamp: float | None,
    *,
    is_down: bool = False,
    gain: float = 1.0,
) -> Tensor:
    weight = state[f"{name}.weight"].double()
    weight = weight / math.sqrt(weight[0].numel())
    if is_down:
        x = F.conv2d(filter_between(x, padding=(2, 2)), weight, stride=2)
    else:
        x = F.conv2d(x, weight, padding=weight.shape[-1] // 2)
    return activate(x, state[f"{name}.bias"], gain, clamp)


def append_batch_deviation(x: Tensor, group_size: int | None) -> Tensor:
    """One more channel: the deviation within a group, its members N / group size apart."""
    n, _, height, width = x.shape
    size = n if group_size is None else min(group_size, n)
    num_groups = n // size
    channel = x.new_zeros(n, 1, height, width)
    for group in range(num_groups):
        members = x[group::num_groups]  # [size, C, H, W]
        variance = ((members - members.mean(dim=0)) ** 2).mean(dim=0)
        channel[group::num_groups] = torch.sqrt(variance + 1e-8).mean()
    return torch.cat([x, channel], dim=1)

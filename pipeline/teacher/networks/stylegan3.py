"""StyleGAN3 generator (Karras et al. 2021), and StyleGAN-XL's stem (Sauer et al. 2022), which has
another mapping.

Written from the papers; names and shapes of parameters are those of the official checkpoints.
Modulated convolutions use one shared weight, as in `stylegan2.py`. Neighbours: `filtered.py` has
the nonlinearity, `importing/stylegan3.py` fills the network.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.teacher.architectures.stylegan3 import (
    StyleGAN3Architecture,
    StyleGAN3Input,
    StyleGAN3Layer,
)
from pipeline.teacher.interface import MappedGenerator, Noise
from pipeline.teacher.networks.filtered import filtered_leaky_relu
from pipeline.teacher.networks.layers import (
    LEAKY_GAIN,
    FullyConnected,
    Mapping,
    normalise_second_moment,
)
from pipeline.teacher.networks.stylegan2 import HALF, GeneratorMapping, truncate


class ClassMapping(Mapping):
    """StyleGAN-XL's mapping: classes have fixed embeddings, and a mean `w` each."""

    def __init__(self, arch: StyleGAN3Architecture) -> None:
        super().__init__(
            2 * arch.z_dim, 0, arch.w_dim, arch.num_mapping_layers, arch.mapping_lr_mult
        )
        self.num_ws = arch.num_ws
        self.add_module("embed", nn.Embedding(arch.num_classes, arch.class_width))
        self.embed_proj = FullyConnected(arch.class_width, arch.z_dim, activate=True)
        self.register_buffer("w_avg", torch.zeros(arch.num_classes, arch.w_dim))
        self.w_avg: Tensor

    def forward(
        self,
        z: Tensor | None,
        labels: Tensor | None = None,
        truncation_psi: float = 1.0,
        truncation_cutoff: int | None = None,
    ) -> Tensor:
        """As that of `GeneratorMapping`, but truncates towards the mean of each sample's class."""
        num_classes = len(self.w_avg)
        if labels is None or labels.shape[1:] != (num_classes,):
            given = "none" if labels is None else list(labels.shape)
            raise ValueError(f"labels: expected [B, {num_classes}], got {given}")
        assert z is not None
        embedded = self.embed_proj(labels @ self.get_parameter("embed.weight"))
        parts = [normalise_second_moment(z), normalise_second_moment(embedded)]
        ws = self.map(torch.cat(parts, 1))[:, None].expand(-1, self.num_ws, -1)
        mean = (labels @ self.w_avg)[:, None]
        return truncate(ws, mean, truncation_psi, truncation_cutoff)


class SynthesisInput(nn.Module):
    """Fourier features, translated and rotated as `w` says (Karras et al. 2021, app. F)."""

    def __init__(self, arch: StyleGAN3Input, w_dim: int) -> None:
        super().__init__()
        self.arch = arch
        width = arch.num_channels
        self.affine = FullyConnected(w_dim, 4)
        self.weight = nn.Parameter(torch.randn(width, width))
        with torch.device("cpu"):  # few; on the meta device they import torch.compile
            angles = torch.rand(width) * math.tau
            radii = arch.bandwidth * torch.rand(width).sqrt()
            freqs = torch.stack([angles.cos() * radii, angles.sin() * radii], 1)
            phases = torch.rand(width) - 0.5
            transform = torch.eye(3)
        self.register_buffer("transform", transform)
        self.register_buffer("freqs", freqs)  # uniform within the band limit
        self.register_buffer("phases", phases)
        self.transform: Tensor
        self.freqs: Tensor
        self.phases: Tensor

    def forward(self, w: Tensor) -> Tensor:
        """[B, w_dim] -> [B, C, size, size] float32."""
        arch = self.arch
        matrix = self._matrix(w)
        phases = self.phases + (self.freqs @ matrix[:, :2, 2:]).squeeze(2)  # [B, C]
        freqs = self.freqs @ matrix[:, :2, :2]  # [B, C, 2]
        fading = (freqs.norm(dim=2) - arch.bandwidth) / (arch.sampling_rate / 2 - arch.bandwidth)
        pixels = torch.arange(arch.size, device=w.device, dtype=w.dtype)
        places = ((pixels + 0.5 - arch.size / 2) / arch.sampling_rate)[:, None]
        across = math.tau * (places * freqs[:, None, :, 0])  # [B, size, C]
        down = math.tau * (places * freqs[:, None, :, 1] + phases[:, None])
        # sin(across + down) at every pixel, of sines and cosines along the axes alone
        features = (
            down.sin()[:, :, None] * across.cos()[:, None]
            + down.cos()[:, :, None] * across.sin()[:, None]
        )  # [B, size, size, C]
        weight = self.weight / math.sqrt(arch.num_channels) * (1 - fading).clamp(0, 1)[:, None]
        mixed: Tensor = (features.flatten(1, 2) @ weight.mT).view(features.shape)
        return mixed.permute(0, 3, 1, 2)

    def _matrix(self, w: Tensor) -> Tensor:
        """Rotation and translation that `w` asks for, then `transform`: [B, 3, 3]."""
        t = self.affine(w)
        t = t / t[:, :2].norm(dim=1, keepdim=True)
        cosine, sine, x, y = t.unbind(1)
        zero, one = torch.zeros_like(x), torch.ones_like(x)
        rotation = torch.stack([cosine, -sine, zero, sine, cosine, zero, zero, zero, one], 1)
        translation = torch.stack([one, zero, -x, zero, one, -y, zero, zero, one], 1)
        return rotation.view(-1, 3, 3) @ translation.view(-1, 3, 3) @ self.transform


class SynthesisLayer(nn.Module):
    """(De)modulated convolution, bias, and the nonlinearity between filters; in the last layer
    neither demodulation nor nonlinearity.

    The reference divides styles by their root mean square over the batch before it demodulates;
    here each sample's are divided by their own. Demodulation undoes either, up to its ε of 1e-8, so
    that a sample does not depend on its neighbours, and equals the reference's to some 1e-8.
    """

    def __init__(
        self, in_channels: int, arch: StyleGAN3Layer, w_dim: int, *, is_torgb: bool
    ) -> None:
        super().__init__()
        self.arch = arch
        self.is_torgb = is_torgb
        self.half_dtype: torch.dtype | None = None
        self.affine = FullyConnected(w_dim, in_channels, bias_init=1.0)
        shape = (arch.num_channels, in_channels, arch.kernel, arch.kernel)
        self.weight = nn.Parameter(torch.randn(shape))
        self.bias = nn.Parameter(torch.zeros(arch.num_channels))
        self.register_buffer("magnitude_ema", torch.ones([]))
        self.register_buffer("up_filter", _low_pass(arch.up_taps, is_radial=False))
        self.register_buffer("down_filter", _low_pass(arch.down_taps, arch.is_radial))
        self.magnitude_ema: Tensor
        self.up_filter: Tensor | None
        self.down_filter: Tensor | None

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """[B, I, r, r], [B, w_dim] -> [B, O, size, size]."""
        arch = self.arch
        dtype = self.half_dtype or self.weight.dtype
        style = self.affine(w)  # [B, I]
        if self.is_torgb:
            scale = self.magnitude_ema.rsqrt() / math.sqrt(self.weight[0].numel())
            x = self._convolve(x.to(dtype), style * scale, self.weight).to(self.bias.dtype)
            before, after = arch.padding
            x = F.pad(x + self.bias[:, None, None], [before, after, before, after])
            return x if arch.conv_clamp is None else x.clamp(-arch.conv_clamp, arch.conv_clamp)
        style = style * style.square().mean(1, keepdim=True).rsqrt()
        weight: Tensor = self.weight
        if dtype in HALF:  # without it half precision overflows in the convolution
            weight = weight * weight.square().sum((1, 2, 3), keepdim=True).rsqrt()
            style = style / style.abs().amax(1, keepdim=True)
        energy = weight.square().sum((2, 3))  # [O, I]
        epsilon = 1e-8 * energy.sum(1) / weight[0].numel()  # as if weights had mean square 1
        scale = (style.square() @ energy.T + epsilon).rsqrt()  # [B, O]
        scale = (scale * self.magnitude_ema.rsqrt() * LEAKY_GAIN).to(dtype)[:, :, None, None]
        x = self._convolve(x.to(dtype), style, weight)
        x = torch.addcmul((self.bias * LEAKY_GAIN).to(dtype)[:, None, None], x, scale)
        return filtered_leaky_relu(x, self.up_filter, self.down_filter, arch)

    def _convolve(self, x: Tensor, style: Tensor, weight: Tensor) -> Tensor:
        """With every channel of `x` times its style, padded so that no pixel is lost."""
        x, weight = x * style.to(x.dtype)[:, :, None, None], weight.to(x.dtype)
        if self.arch.kernel == 1:  # on one CPU thread up to twice as fast as conv2d
            return (x.movedim(1, -1) @ weight.flatten(1).mT).movedim(-1, 1)
        return F.conv2d(x, weight, padding=self.arch.kernel - 1)


class Synthesis(nn.Module):
    """`ws` -> image."""

    def __init__(self, arch: StyleGAN3Architecture) -> None:
        super().__init__()
        self.output_scale = arch.output_scale
        self.layer_names = arch.layer_names
        self.input = SynthesisInput(arch.input, arch.w_dim)
        width = arch.input.num_channels
        for name, layer in zip(self.layer_names, arch.layers, strict=True):
            is_torgb = layer is arch.layers[-1]
            self.add_module(name, SynthesisLayer(width, layer, arch.w_dim, is_torgb=is_torgb))
            width = layer.num_channels

    @property
    def layers(self) -> list[SynthesisLayer]:
        """All layers in order, that of the image last."""
        layers = [self.get_submodule(name) for name in self.layer_names]
        return [layer for layer in layers if isinstance(layer, SynthesisLayer)]

    def forward(self, ws: Tensor) -> Tensor:
        """[B, num_ws, w_dim] -> images [B, C, R, R] float32."""
        x: Tensor = self.input(ws[:, 0])
        for index, layer in enumerate(self.layers, 1):
            x = layer(x, ws[:, index])
        return x * self.output_scale


class StyleGAN3Generator(MappedGenerator):
    """Latents -> images; the input and every layer are blocks, margins included."""

    def __init__(self, arch: StyleGAN3Architecture) -> None:
        super().__init__()
        self.arch: StyleGAN3Architecture = arch
        self.mapping = ClassMapping(arch) if arch.class_width else GeneratorMapping(arch)
        self.synthesis = Synthesis(arch)
        self.blocks = [f"synthesis.{name}" for name in ("input", *arch.layer_names)]
        self.num_ws = arch.num_ws

    def set_precision(self, dtype: torch.dtype) -> None:
        """Run the architecture's `half_layers` in `dtype`, the rest in float32."""
        super().set_precision(dtype)
        for layer, is_half in zip(self.synthesis.layers, self.arch.half_layers, strict=True):
            layer.half_dtype = self.half_dtype if is_half else None

    def synthesise(self, ws: Tensor, noise: Noise) -> Tensor:
        """See `MappedGenerator.synthesise`; there is no noise."""
        image: Tensor = self.synthesis(ws)
        return image


def _low_pass(num_taps: int, is_radial: bool) -> Tensor | None:
    """A filter to begin with: checkpoints bring theirs."""
    if num_taps == 1:
        return None
    with torch.device("cpu"):  # as above
        window = torch.kaiser_window(num_taps, periodic=False)
        window = window / window.sum()
        return torch.outer(window, window) if is_radial else window

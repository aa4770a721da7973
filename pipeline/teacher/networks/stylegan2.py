"""StyleGAN2 generator, written from the papers, in a form that is fast on CPUs.

Neighbours: `discriminator.py` is its opponent, `teacher/checkpoint.py` saves and loads both,
`teacher/features.py` takes features from the blocks, `training/step.py` trains. Parameter names and
shapes are those of the official StyleGAN2-ADA checkpoints.

Modulated convolutions use one shared weight: the style scales the input and the demodulation scales
the output, which equals the per-sample weights of Karras et al. 2020 (Eq. 1-3) without grouped
convolutions. Resampling is in `fir.py`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.teacher.architectures.rosinality import RosinalityArchitecture
from pipeline.teacher.architectures.stylegan2 import (
    USUAL_HALF_BLOCKS,
    StyleGAN2Architecture,
    runs_in_half,
)
from pipeline.teacher.architectures.stylegan3 import StyleGAN3Architecture
from pipeline.teacher.interface import MappedGenerator, Noise, NoiseMode
from pipeline.teacher.networks.fir import conv_up, resample_filter, upsample_image
from pipeline.teacher.networks.layers import (
    LEAKY_GAIN,
    RESIDUAL_GAIN,
    EqualisedConv,
    FullyConnected,
    Mapping,
    leaky_relu,
)

AnyStyleGAN2 = StyleGAN2Architecture | RosinalityArchitecture
HALF = (torch.float16, torch.bfloat16)


class GeneratorMapping(Mapping):
    """`z` -> `ws` [B, num_ws, w_dim]; `w_avg` tracks the mean of `w` for truncation."""

    def __init__(self, arch: AnyStyleGAN2 | StyleGAN3Architecture) -> None:
        super().__init__(
            arch.z_dim, arch.num_classes, arch.w_dim, arch.num_mapping_layers, arch.mapping_lr_mult
        )
        self.num_ws = arch.num_ws
        self.register_buffer("w_avg", torch.zeros(arch.w_dim))
        self.w_avg: Tensor

    def forward(
        self,
        z: Tensor | None,
        labels: Tensor | None = None,
        truncation_psi: float = 1.0,
        truncation_cutoff: int | None = None,
    ) -> Tensor:
        """Map `z` [B, z_dim] ~ N(0, I) and `labels` [B, num_classes].

        `truncation_psi` < 1 pulls the first `truncation_cutoff` copies of `w` (None: all) towards
        `w_avg` (Karras et al. 2019, section 2.1 and app. B).
        """
        ws = super().forward(z, labels)[:, None].expand(-1, self.num_ws, -1)
        return truncate(ws, self.w_avg, truncation_psi, truncation_cutoff)


def truncate(ws: Tensor, mean: Tensor, psi: float, cutoff: int | None) -> Tensor:
    """`ws` [B, n, w_dim], the first `cutoff` (None: all) pulled towards `mean`, [w_dim] or
    [B, 1, w_dim].
    """
    if psi == 1:
        return ws
    cutoff = ws.shape[1] if cutoff is None else cutoff
    return torch.cat([mean.lerp(ws[:, :cutoff], psi), ws[:, cutoff:]], 1)


class SynthesisLayer(nn.Module):
    """(De)modulated 3x3 convolution, noise, bias, leaky ReLU (Karras et al. 2020, Fig. 2)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        resolution: int,
        arch: AnyStyleGAN2,
        *,
        up: bool,
    ) -> None:
        super().__init__()
        self.up = up
        self.conv_clamp = arch.conv_clamp
        self.affine = FullyConnected(arch.w_dim, in_channels, bias_init=1.0)
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, 3, 3))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.noise_strength = nn.Parameter(torch.zeros([]))
        self.register_buffer("noise_const", torch.randn(resolution, resolution))
        self.register_buffer("resample_filter", resample_filter())
        self.noise_const: Tensor
        self.resample_filter: Tensor

    def forward(self, x: Tensor, w: Tensor, noise: Tensor | NoiseMode, gain: float = 1.0) -> Tensor:
        """[B, I, r, r], [B, w_dim], noise [B, 1, R, R] -> [B, O, R, R], R = 2r if `up` else r.

        Computes in the type of `x`; the output is scaled by `gain`.
        """
        dtype, scale = x.dtype, LEAKY_GAIN * gain
        weight: Tensor = self.weight  # [O, I, 3, 3]
        style = self.affine(w)  # [B, I]
        if dtype in HALF:
            # Half precision overflows in the convolution; demodulation undoes any scale (Karras et
            # al. 2020, "Training GANs with limited data", app. D).
            largest = weight.abs().amax((1, 2, 3), keepdim=True)
            weight = weight / (largest * math.sqrt(weight[0].numel()))
            style = style / style.abs().amax(1, keepdim=True)
        # [B, O]
        demodulation = (style.square() @ weight.square().sum((2, 3)).T + 1e-8).rsqrt() * scale
        weight = weight.to(dtype)
        x = x * style.to(dtype)[:, :, None, None]
        if self.up:
            x = conv_up(x, weight, self.resample_filter.to(dtype))
        else:
            x = F.conv2d(x, weight, padding=1)
        x = x * demodulation.to(dtype)[:, :, None, None]
        if isinstance(noise, Tensor):
            x = x + (noise * (self.noise_strength * scale)).to(dtype)
        elif noise == "const":
            x = x + (self.noise_const * (self.noise_strength * scale)).to(dtype)
        x = x + (self.bias * scale).to(dtype)[:, None, None]
        return leaky_relu(x, None if self.conv_clamp is None else self.conv_clamp * gain)


class ToRGB(nn.Module):
    """Modulated 1x1 convolution to image channels, without demodulation."""

    def __init__(self, in_channels: int, arch: AnyStyleGAN2) -> None:
        super().__init__()
        self.conv_clamp = arch.conv_clamp
        self.affine = FullyConnected(arch.w_dim, in_channels, bias_init=1.0)
        self.weight = nn.Parameter(torch.randn(arch.image_channels, in_channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(arch.image_channels))
        self.style_gain = 1 / math.sqrt(in_channels)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """[B, I, r, r], [B, w_dim] -> [B, 3, r, r] float32."""
        style = (self.affine(w) * self.style_gain).to(x.dtype)
        x = F.conv2d(x * style[:, :, None, None], self.weight.to(x.dtype))
        x = x.to(self.bias.dtype) + self.bias[:, None, None]
        return x if self.conv_clamp is None else x.clamp(-self.conv_clamp, self.conv_clamp)


class SynthesisBlock(nn.Module):
    """One resolution of the generator: (conv0 up,) conv1, and what its architecture adds."""

    def __init__(self, resolution: int, arch: StyleGAN2Architecture) -> None:
        super().__init__()
        width = arch.num_channels(resolution)
        self.is_first = resolution == 4
        self.has_torgb = arch.skips == "skip" or resolution == arch.resolution
        self.is_residual = arch.skips == "resnet" and not self.is_first
        self.half_dtype: torch.dtype | None = None
        if self.is_first:
            self.const = nn.Parameter(torch.randn(width, 4, 4))
        else:
            in_width = arch.num_channels(resolution // 2)
            self.conv0 = SynthesisLayer(in_width, width, resolution, arch, up=True)
            if self.is_residual:
                self.skip = EqualisedConv(in_width, width, 1, resample="up", is_linear=True)
        self.conv1 = SynthesisLayer(width, width, resolution, arch, up=False)
        if self.has_torgb:
            self.torgb = ToRGB(width, arch)
        self.register_buffer("resample_filter", resample_filter())
        self.resample_filter: Tensor

    @property
    def num_convs(self) -> int:
        """Synthesis layers in this block, and so entries of `ws` consumed."""
        return 1 if self.is_first else 2

    def forward(
        self,
        x: Tensor | None,
        image: Tensor | None,
        ws: Tensor,
        noise: Sequence[Tensor | NoiseMode],
    ) -> tuple[Tensor, Tensor | None]:
        """Block features, running image; `ws` [B, num_convs + 1, w_dim], the last one for ToRGB."""
        if x is None:
            x = self.const.expand(len(ws), -1, -1, -1)
            x = self.conv1(x, ws[:, 0], noise[0])
        else:
            x = (
                x if self.half_dtype is None else x.to(self.half_dtype)
            )  # all blocks above are half, too
            if self.is_residual:
                shortcut = self.skip(x, RESIDUAL_GAIN)
                x = self.conv0(x, ws[:, 0], noise[0])
                x = shortcut + self.conv1(x, ws[:, 1], noise[1], RESIDUAL_GAIN)
            else:
                x = self.conv0(x, ws[:, 0], noise[0])
                x = self.conv1(x, ws[:, 1], noise[1])
        if image is not None:
            image = upsample_image(image, self.resample_filter)
        if self.has_torgb:
            rgb = self.torgb(x, ws[:, -1])
            image = rgb if image is None else image + rgb
        return x, image


class Synthesis(nn.Module):
    """`ws` -> image."""

    def __init__(self, arch: StyleGAN2Architecture) -> None:
        super().__init__()
        self.block_resolutions = arch.block_resolutions
        for resolution in self.block_resolutions:
            self.add_module(f"b{resolution}", SynthesisBlock(resolution, arch))
        self.noise_resolutions = [r for r in arch.block_resolutions for _ in range(1 + (r > 4))]
        """Of every noise input, in the order in which layers take them."""

    def block(self, resolution: int) -> SynthesisBlock:
        """The block at `resolution`."""
        block = self.get_submodule(f"b{resolution}")
        assert isinstance(block, SynthesisBlock)
        return block

    def forward(self, ws: Tensor, noise: Noise) -> Tensor:
        """Render `ws` [B, num_ws, w_dim] to images [B, C, R, R] float32.

        `noise` is one [B, 1, r, r] tensor for each of `noise_resolutions`, or "const" (the stored
        maps) or "none".
        """
        num_layers = len(self.noise_resolutions)
        inputs: Sequence[Tensor | NoiseMode] = (
            [noise] * num_layers if isinstance(noise, str) else noise
        )
        if len(inputs) != num_layers:
            raise ValueError(f"noise: expected {num_layers} maps, got {len(inputs)}")
        x: Tensor | None = None
        image: Tensor | None = None
        index = 0
        for resolution in self.block_resolutions:
            block = self.block(resolution)
            stop = index + block.num_convs
            x, image = block(x, image, ws[:, index : stop + 1], inputs[index:stop])
            index = stop
        assert image is not None
        return image


class Generator(MappedGenerator):
    """Latents -> images (StyleGAN2, with or without classes)."""

    def __init__(self, arch: StyleGAN2Architecture) -> None:
        super().__init__()
        self.arch: StyleGAN2Architecture = arch
        self.mapping = GeneratorMapping(arch)
        self.synthesis = Synthesis(arch)
        self.blocks = [f"synthesis.b{resolution}" for resolution in arch.block_resolutions]
        self.noise_resolutions = self.synthesis.noise_resolutions
        self.num_ws = arch.num_ws

    def set_precision(self, dtype: torch.dtype) -> None:
        """Run the `num_half_blocks` highest resolutions in `dtype`, the rest in float32."""
        super().set_precision(dtype)
        num_blocks = self.arch.num_half_blocks or USUAL_HALF_BLOCKS
        for resolution in self.arch.block_resolutions:
            is_half = runs_in_half(resolution, self.arch.resolution, num_blocks)
            self.synthesis.block(resolution).half_dtype = self.half_dtype if is_half else None

    def synthesise(self, ws: Tensor, noise: Noise) -> Tensor:
        """See `MappedGenerator.synthesise`."""
        image: Tensor = self.synthesis(ws, noise)
        return image

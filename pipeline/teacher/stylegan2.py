"""StyleGAN2 generator and discriminator, written from the papers, in a form that is fast on CPUs.

Neighbours: `checkpoint.py` saves and loads these networks, `features.py` pools what `Generator`
returns, `train.py` trains both. Parameter names and shapes are those of the official StyleGAN2-ADA
checkpoints.

Modulated convolutions use one shared weight: the style scales the input and the demodulation scales
the output, which equals the per-sample weights of Karras et al. 2020 (Eq. 1-3) without grouped
convolutions. Resampling is in `resampling.py`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.teacher.architecture import Architecture
from pipeline.teacher.resampling import conv_down, conv_up, resample_filter, upsample_image

NoiseMode = Literal["const", "none"]
LEAKY_SLOPE = 0.2
LEAKY_GAIN = math.sqrt(2)


@dataclass(frozen=True)
class GeneratorOutput:
    """`image` [B, 3, R, R] float, nominally in [-1, 1], not clamped; `features` per block [B, C, r,
    r].
    """

    image: Tensor
    features: dict[str, Tensor]


def leaky_relu(x: Tensor, clamp: float | None) -> Tensor:
    """Leaky ReLU with the unit-variance gain √2, clamped to ±`clamp`."""
    x = F.leaky_relu(x, LEAKY_SLOPE) * LEAKY_GAIN
    return x if clamp is None else x.clamp(-clamp, clamp)


class FullyConnected(nn.Module):
    """y = x (W · lr_mult / √in)ᵀ + b · lr_mult, optionally followed by the scaled leaky ReLU."""

    def __init__(
        self, in_features: int, out_features: int, *, lr_mult: float = 1.0, bias_init: float = 0.0,
        activate: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_features, in_features) / lr_mult)
        self.bias = nn.Parameter(torch.full((out_features,), bias_init))
        self.weight_gain = lr_mult / math.sqrt(in_features)
        self.bias_gain = lr_mult
        self.activate = activate

    def forward(self, x: Tensor) -> Tensor:
        """[B, in] -> [B, out]."""
        x = F.linear(x, self.weight * self.weight_gain, self.bias * self.bias_gain)
        return leaky_relu(x, None) if self.activate else x


class Mapping(nn.Module):
    """`z` [B, z_dim] -> `ws` [B, num_ws, w_dim]; `w_avg` tracks the mean of `w` for truncation."""

    def __init__(self, arch: Architecture) -> None:
        super().__init__()
        self.num_layers = arch.num_mapping_layers
        self.num_ws = arch.num_ws
        for i in range(self.num_layers):
            in_features = arch.z_dim if i == 0 else arch.w_dim
            self.add_module(
                f"fc{i}", FullyConnected(in_features, arch.w_dim, lr_mult=0.01, activate=True)
            )
        self.register_buffer("w_avg", torch.zeros(arch.w_dim))
        self.w_avg: Tensor

    def forward(self, z: Tensor, truncation_psi: float = 1.0) -> Tensor:
        """Map `z` ~ N(0, I); `truncation_psi` < 1 pulls `w` towards `w_avg` (Karras et al.
        2019).
        """
        x = z * (z.square().mean(1, keepdim=True) + 1e-8).rsqrt()
        for i in range(self.num_layers):
            x = self.get_submodule(f"fc{i}")(x)
        if truncation_psi != 1:
            x = self.w_avg.lerp(x, truncation_psi)
        return x[:, None].expand(-1, self.num_ws, -1)


class SynthesisLayer(nn.Module):
    """Modulated and demodulated 3x3 convolution, noise, bias, leaky ReLU (Karras et al. 2020, Fig.
    2).
    """

    def __init__(
        self, in_channels: int, out_channels: int, resolution: int, arch: Architecture, *, up: bool
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

    def forward(self, x: Tensor, w: Tensor, noise: Tensor | NoiseMode) -> Tensor:
        """[B, I, r, r], [B, w_dim], noise [B, 1, R, R] -> [B, O, R, R], R = 2r if `up` else r."""
        style = self.affine(w)  # [B, I]
        demodulation = (
            style.square() @ self.weight.square().sum((2, 3)).T + 1e-8
        ).rsqrt()  # [B, O]
        x = x * style[:, :, None, None]
        x = (
            conv_up(x, self.weight, self.resample_filter)
            if self.up
            else F.conv2d(x, self.weight, padding=1)
        )
        x = x * demodulation[:, :, None, None]
        if isinstance(noise, Tensor):
            x = x + noise * self.noise_strength
        elif noise == "const":
            x = x + self.noise_const * self.noise_strength
        return leaky_relu(x + self.bias[:, None, None], self.conv_clamp)


class ToRGB(nn.Module):
    """Modulated 1x1 convolution to image channels, without demodulation."""

    def __init__(self, in_channels: int, arch: Architecture) -> None:
        super().__init__()
        self.conv_clamp = arch.conv_clamp
        self.affine = FullyConnected(arch.w_dim, in_channels, bias_init=1.0)
        self.weight = nn.Parameter(torch.randn(arch.image_channels, in_channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(arch.image_channels))
        self.style_gain = 1 / math.sqrt(in_channels)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """[B, I, r, r], [B, w_dim] -> [B, 3, r, r]."""
        style = self.affine(w) * self.style_gain
        x = F.conv2d(x * style[:, :, None, None], self.weight) + self.bias[:, None, None]
        return x if self.conv_clamp is None else x.clamp(-self.conv_clamp, self.conv_clamp)


class SynthesisBlock(nn.Module):
    """One resolution of the generator: (conv0 up,) conv1, and the skip connection's ToRGB."""

    def __init__(self, resolution: int, arch: Architecture) -> None:
        super().__init__()
        width = arch.num_channels(resolution)
        self.is_first = resolution == 4
        if self.is_first:
            self.const = nn.Parameter(torch.randn(width, 4, 4))
        else:
            self.conv0 = SynthesisLayer(
                arch.num_channels(resolution // 2), width, resolution, arch, up=True
            )
        self.conv1 = SynthesisLayer(width, width, resolution, arch, up=False)
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
    ) -> tuple[Tensor, Tensor]:
        """Block features and running image; `ws` [B, num_convs + 1, w_dim], the last one for
        ToRGB.
        """
        if x is None or image is None:
            x = self.const.expand(len(ws), -1, -1, -1)
            x = self.conv1(x, ws[:, 0], noise[0])
            return x, self.torgb(x, ws[:, 1])
        x = self.conv0(x, ws[:, 0], noise[0])
        x = self.conv1(x, ws[:, 1], noise[1])
        return x, upsample_image(image, self.resample_filter) + self.torgb(x, ws[:, 2])


class Synthesis(nn.Module):
    """`ws` -> image and block features, architecture `skip`."""

    def __init__(self, arch: Architecture) -> None:
        super().__init__()
        self.block_resolutions = arch.block_resolutions
        for resolution in self.block_resolutions:
            self.add_module(f"b{resolution}", SynthesisBlock(resolution, arch))

    @property
    def noise_resolutions(self) -> list[int]:
        """Resolution of every noise input in the order in which layers take them."""
        return [r for r in self.block_resolutions for _ in range(1 if r == 4 else 2)]

    def forward(self, ws: Tensor, noise: Sequence[Tensor] | NoiseMode) -> GeneratorOutput:
        """Render.

        Args:
            ws: [B, num_ws, w_dim].
            noise: one [B, 1, r, r] tensor for each of `noise_resolutions`, or "const" (the stored
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
        features = {}
        index = 0
        for resolution in self.block_resolutions:
            block = self.get_submodule(f"b{resolution}")
            assert isinstance(block, SynthesisBlock)
            stop = index + block.num_convs
            x, image = block(x, image, ws[:, index : stop + 1], inputs[index:stop])
            assert x is not None
            features[f"b{resolution}"] = x
            index = stop
        assert image is not None
        return GeneratorOutput(image, features)


class Generator(nn.Module):
    """Latents -> images and block features (StyleGAN2, unconditional)."""

    def __init__(self, arch: Architecture) -> None:
        super().__init__()
        self.arch = arch
        self.mapping = Mapping(arch)
        self.synthesis = Synthesis(arch)

    def forward(
        self, z: Tensor, noise: Sequence[Tensor] | NoiseMode, truncation_psi: float = 1.0
    ) -> GeneratorOutput:
        """`z` [B, z_dim] ~ N(0, I) -> image and block features; see `Synthesis.forward` for
        `noise`.
        """
        output: GeneratorOutput = self.synthesis(self.mapping(z, truncation_psi), noise)
        return output


class DiscriminatorLayer(nn.Module):
    """Equalised convolution (weight / √(in k²)), bias, leaky ReLU; `down` filters and halves."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        clamp: float | None,
        *,
        down: bool = False,
    ):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.weight_gain = 1 / math.sqrt(in_channels * kernel**2)
        self.conv_clamp = clamp
        self.down = down
        self.register_buffer("resample_filter", resample_filter())
        self.resample_filter: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """[B, I, r, r] -> [B, O, r, r], or r/2 when `down`."""
        weight = self.weight * self.weight_gain
        if self.down:
            x = conv_down(x, weight, self.resample_filter)
        else:
            x = F.conv2d(x, weight, padding=weight.shape[-1] // 2)
        return leaky_relu(x + self.bias[:, None, None], self.conv_clamp)


class DiscriminatorBlock(nn.Module):
    """One resolution of the discriminator, architecture `orig`: (fromrgb,) conv0, conv1 down."""

    def __init__(self, resolution: int, arch: Architecture) -> None:
        super().__init__()
        width, out_width = arch.num_channels(resolution), arch.num_channels(resolution // 2)
        self.is_first = resolution == arch.resolution
        if self.is_first:
            self.fromrgb = DiscriminatorLayer(arch.image_channels, width, 1, arch.conv_clamp)
        self.conv0 = DiscriminatorLayer(width, width, 3, arch.conv_clamp)
        self.conv1 = DiscriminatorLayer(width, out_width, 3, arch.conv_clamp, down=True)
        self.register_buffer("resample_filter", resample_filter())

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, r, r] (an image in the first block) -> [B, C', r/2, r/2]."""
        if self.is_first:
            x = self.fromrgb(x)
        x = self.conv1(self.conv0(x))
        return x


def minibatch_std(x: Tensor, group_size: int) -> Tensor:
    """`x` [B, C, r, r] with one more channel: the mean standard deviation within each group of
    samples.

    Karras et al. 2018, section 3; groups are samples n, n + B/g, … as in StyleGAN2.
    """
    batch, channels, height, width = x.shape
    group = (
        math.gcd(group_size, batch) if batch % min(group_size, batch) else min(group_size, batch)
    )
    y = x.reshape(group, batch // group, channels, height, width)
    std = ((y - y.mean(0)).square().mean(0) + 1e-8).sqrt().mean((1, 2, 3))  # [B / g]
    return torch.cat([x, std.reshape(-1, 1, 1, 1).repeat(group, 1, height, width)], 1)


class DiscriminatorEpilogue(nn.Module):
    """Minibatch standard deviation, conv, fc, and the logit."""

    def __init__(self, arch: Architecture) -> None:
        super().__init__()
        width = arch.num_channels(4)
        self.group_size = arch.mbstd_group_size
        self.conv = DiscriminatorLayer(width + 1, width, 3, arch.conv_clamp)
        self.fc = FullyConnected(width * 16, width, activate=True)
        self.out = FullyConnected(width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, 4, 4] -> logits [B, 1]."""
        x = self.conv(minibatch_std(x, self.group_size))
        logits: Tensor = self.out(self.fc(x.flatten(1)))
        return logits


class Discriminator(nn.Module):
    """Images [B, 3, R, R] in [-1, 1] -> logits [B, 1]; architecture `orig`."""

    def __init__(self, arch: Architecture) -> None:
        super().__init__()
        self.block_resolutions = arch.block_resolutions[:0:-1]
        for resolution in self.block_resolutions:
            self.add_module(f"b{resolution}", DiscriminatorBlock(resolution, arch))
        self.b4 = DiscriminatorEpilogue(arch)

    def forward(self, image: Tensor) -> Tensor:
        """Logits [B, 1]; larger means more real."""
        x = image
        for resolution in self.block_resolutions:
            x = self.get_submodule(f"b{resolution}")(x)
        logits: Tensor = self.b4(x)
        return logits

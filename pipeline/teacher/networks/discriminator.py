"""StyleGAN2 discriminator: images -> logits, and block features for a baseline (Yang et al. 2022,
Eq. 2).

Written from the papers (Karras et al. 2018, 2020); parameter names and shapes are those of the
official StyleGAN2-ADA checkpoints. Neighbours: `stylegan2.py`, `training/step.py`,
`teacher/inspection.py`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from pipeline.engine.collectives import gather_batch, num_workers, worker_part
from pipeline.teacher.architectures.stylegan2 import (
    StyleGAN2DiscriminatorArchitecture,
    runs_in_half,
)
from pipeline.teacher.interface import TeacherDiscriminator
from pipeline.teacher.networks.fir import downsample_image, resample_filter
from pipeline.teacher.networks.layers import RESIDUAL_GAIN, EqualisedConv, FullyConnected, Mapping


class DiscriminatorBlock(nn.Module):
    """One resolution: (fromrgb,) conv0, conv1 down, and what the architecture adds."""

    def __init__(self, resolution: int, arch: StyleGAN2DiscriminatorArchitecture) -> None:
        super().__init__()
        width, out_width = arch.num_channels(resolution), arch.num_channels(resolution // 2)
        clamp = arch.conv_clamp
        self.skips = arch.skips
        self.has_fromrgb = arch.skips == "skip" or resolution == arch.resolution
        self.half_dtype: torch.dtype | None = None
        if self.has_fromrgb:
            self.fromrgb = EqualisedConv(arch.image_channels, width, 1, clamp)
        self.conv0 = EqualisedConv(width, width, 3, clamp)
        self.conv1 = EqualisedConv(width, out_width, 3, clamp, resample="down")
        if arch.skips == "resnet":
            self.skip = EqualisedConv(width, out_width, 1, resample="down", is_linear=True)
        self.register_buffer("resample_filter", resample_filter())
        self.resample_filter: Tensor

    def forward(self, x: Tensor | None, image: Tensor) -> tuple[Tensor, Tensor]:
        """[B, C, r, r] (None in the first block), image [B, 3, r, r] -> [B, C', r/2, r/2], and the
        image for the next block, halved if `skip`.
        """
        dtype = self.half_dtype or self.conv0.weight.dtype
        x = None if x is None else x.to(dtype)
        if self.has_fromrgb:
            y = self.fromrgb(image.to(dtype))
            x = y if x is None else x + y
        if self.skips == "skip":
            image = downsample_image(image, self.resample_filter)
        if self.skips == "resnet":
            y = self.skip(x, RESIDUAL_GAIN)
            return y + self.conv1(self.conv0(x), RESIDUAL_GAIN), image
        return self.conv1(self.conv0(x)), image


def minibatch_std(x: Tensor, group_size: int | None) -> Tensor:
    """`x` [B, C, r, r] with one more channel: the mean standard deviation within each group of
    samples.

    Karras et al. 2018, section 3; groups are samples n, n + B/g, … as in StyleGAN2. A batch that
    `group_size` does not divide falls into the largest groups that do; None takes the whole batch.
    With several workers, groups are those of the global batch.
    """
    rows = worker_part(len(x) * num_workers())
    own, x = x, gather_batch(x)
    batch, channels, height, width = x.shape
    group = min(group_size or batch, batch)
    group = group if batch % group == 0 else math.gcd(group, batch)
    y = x.reshape(group, batch // group, channels, height, width)
    std = ((y - y.mean(0)).square().mean(0) + 1e-8).sqrt().mean((1, 2, 3))  # [B / g]
    std = std.reshape(-1, 1, 1, 1).repeat(group, 1, height, width)
    return torch.cat([own, std[rows]], 1)


class DiscriminatorEpilogue(nn.Module):
    """Minibatch standard deviation, conv, fc, and the output layer."""

    def __init__(self, arch: StyleGAN2DiscriminatorArchitecture) -> None:
        super().__init__()
        width = arch.num_channels(4)
        self.group_size = arch.mbstd_group_size
        self.has_fromrgb = arch.skips == "skip"
        if self.has_fromrgb:
            self.fromrgb = EqualisedConv(arch.image_channels, width, 1)
        self.conv = EqualisedConv(width + 1, width, 3, arch.conv_clamp)
        self.fc = FullyConnected(width * 16, width, activate=True)
        self.out = FullyConnected(width, arch.num_outputs)

    def forward(self, x: Tensor, image: Tensor) -> Tensor:
        """[B, C, 4, 4] and the 4-px image, seen by `skip` alone -> [B, num_outputs]."""
        if self.has_fromrgb:
            x = x + self.fromrgb(image)
        x = self.conv(minibatch_std(x, self.group_size))
        out: Tensor = self.out(self.fc(x.flatten(1)))
        return out


class Discriminator(TeacherDiscriminator):
    """Images [B, C, R, R] in [-1, 1] -> logits [B, 1]; the blocks are those above 4 px."""

    def __init__(self, arch: StyleGAN2DiscriminatorArchitecture) -> None:
        super().__init__()
        self.arch: StyleGAN2DiscriminatorArchitecture = arch
        for resolution in arch.block_resolutions:
            self.add_module(f"b{resolution}", DiscriminatorBlock(resolution, arch))
        if arch.num_classes:
            self.mapping = Mapping(
                0, arch.num_classes, arch.num_outputs, arch.num_mapping_layers, arch.mapping_lr_mult
            )
        self.b4 = DiscriminatorEpilogue(arch)
        self.blocks = [f"b{resolution}" for resolution in arch.block_resolutions]
        self.last = "b4.fc"

    def set_precision(self, dtype: torch.dtype) -> None:
        """Run the `num_half_blocks` highest resolutions in `dtype`, the rest in float32."""
        for resolution in self.arch.block_resolutions:
            block = self.get_submodule(f"b{resolution}")
            assert isinstance(block, DiscriminatorBlock)
            is_half = runs_in_half(resolution, self.arch.resolution, self.arch.num_half_blocks)
            block.half_dtype = dtype if is_half and dtype != torch.float32 else None

    def forward(self, image: Tensor, labels: Tensor | None = None) -> Tensor:
        """Logits [B, 1], larger means more real; `labels` [B, num_classes] where there are
        classes (the projection of Miyato and Koyama 2018).
        """
        x: Tensor | None = None
        for name in self.blocks:
            x, image = self.get_submodule(name)(x, image)
        assert x is not None
        dtype = self.b4.fc.weight.dtype
        out: Tensor = self.b4(x.to(dtype), image.to(dtype))
        if not self.arch.num_classes:
            return out
        mapped = self.mapping(None, labels)
        projected: Tensor = (out * mapped).sum(1, keepdim=True)
        return projected / math.sqrt(self.arch.num_outputs)

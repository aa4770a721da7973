"""The discriminator of lucidrains' StyleGAN2 (lucidrains/stylegan2-pytorch), residual.

Module names are those of the repository. Neighbour: `lucidrains.py`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pipeline.teacher.architectures.lucidrains import LucidrainsDiscriminatorArchitecture
from pipeline.teacher.interface import TeacherDiscriminator
from pipeline.teacher.networks.layers import LEAKY_SLOPE, RESIDUAL_GAIN
from pipeline.teacher.networks.linear_attention import attention_layer
from pipeline.teacher.networks.lucidrains import Blur


class DiscriminatorBlock(nn.Module):
    """Two convolutions and, unless it `is_last`, half the side, beside a 1x1 convolution."""

    def __init__(self, in_channels: int, num_channels: int, *, is_last: bool) -> None:
        super().__init__()
        self.conv_res = nn.Conv2d(in_channels, num_channels, 1, stride=1 if is_last else 2)
        self.net = nn.Sequential(
            nn.Conv2d(in_channels, num_channels, 3, padding=1),
            nn.LeakyReLU(LEAKY_SLOPE),
            nn.Conv2d(num_channels, num_channels, 3, padding=1),
            nn.LeakyReLU(LEAKY_SLOPE),
        )
        self.downsample = (
            nn.Identity()
            if is_last
            else nn.Sequential(Blur(), nn.Conv2d(num_channels, num_channels, 3, 2, 1))
        )

    def forward(self, x: Tensor) -> Tensor:
        """[B, I, r, r] -> [B, C, r/2, r/2], or r in the last."""
        x = (self.downsample(self.net(x)) + self.conv_res(x)) * RESIDUAL_GAIN
        return x


class _Network(nn.Module):
    """Images in [0, 1] -> logits."""

    def __init__(self, arch: LucidrainsDiscriminatorArchitecture) -> None:
        super().__init__()
        widths, last = arch.widths, len(arch.widths) - 1
        before = (arch.image_channels + arch.has_alpha, *widths)
        self.blocks = nn.ModuleList(
            DiscriminatorBlock(before[index], width, is_last=index == last)
            for index, width in enumerate(widths)
        )
        self.attn_blocks = nn.ModuleDict(
            {str(index): attention_layer(widths[index]) for index in arch.attention}
        )
        self.final_conv = nn.Conv2d(widths[-1], widths[-1], 3, padding=1)
        self.to_logit = nn.Linear(4 * widths[-1], 1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, R, R] -> [B, 1]."""
        for index, block in enumerate(self.blocks):
            x = block(x)
            if str(index) in self.attn_blocks:
                x = self.attn_blocks[str(index)](x)
        x = self.to_logit(self.final_conv(x).flatten(1))
        return x


class LucidrainsDiscriminator(TeacherDiscriminator):
    """Images -> logits [B, 1]. One that sees transparency is shown opaque images: the repository
    does so with images that have none.
    """

    def __init__(self, arch: LucidrainsDiscriminatorArchitecture) -> None:
        super().__init__()
        self.arch: LucidrainsDiscriminatorArchitecture = arch
        self.D = _Network(arch)
        self.blocks = [f"D.blocks.{index}" for index in range(len(arch.widths))]
        self.last = "D.final_conv"

    def forward(self, image: Tensor, labels: Tensor | None = None) -> Tensor:
        """See `TeacherDiscriminator.forward`; there are no classes."""
        x = (image + 1) / 2
        if self.arch.has_alpha:
            x = torch.cat([x, torch.ones_like(x[:, :1])], 1)
        logits: Tensor = self.D(x)
        return logits

"""StyleGAN2 under the module paths of rosinality/stylegan2-pytorch, from StyleGAN2's own layers.

Neighbours: `stylegan2.py` and `layers.py` compute; `importing/rosinality.py` renames the weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from pipeline.teacher.architectures.rosinality import (
    RosinalityArchitecture,
    RosinalityDiscriminatorArchitecture,
)
from pipeline.teacher.architectures.stylegan2 import USUAL_HALF_BLOCKS, runs_in_half
from pipeline.teacher.interface import MappedGenerator, Noise, NoiseMode, TeacherDiscriminator
from pipeline.teacher.networks.discriminator import minibatch_std
from pipeline.teacher.networks.fir import resample_filter, upsample_image
from pipeline.teacher.networks.layers import RESIDUAL_GAIN, EqualisedConv, FullyConnected
from pipeline.teacher.networks.stylegan2 import GeneratorMapping, SynthesisLayer, ToRGB

GROUP_SIZE = 4
"""Samples per group of the minibatch standard deviation."""


class RunningToRGB(ToRGB):
    """ToRGB that adds to the image of the resolution below."""

    def __init__(self, in_channels: int, arch: RosinalityArchitecture) -> None:
        super().__init__(in_channels, arch)
        self.register_buffer("resample_filter", resample_filter())
        self.resample_filter: Tensor

    def forward(self, x: Tensor, w: Tensor, image: Tensor | None = None) -> Tensor:
        """[B, I, r, r], [B, w_dim], image [B, 3, r/2, r/2] -> [B, 3, r, r] float32."""
        rgb = super().forward(x, w)
        return rgb if image is None else rgb + upsample_image(image, self.resample_filter)


class RosinalityGenerator(MappedGenerator):
    """Latents -> images; the blocks are the outputs of each resolution's last convolution."""

    def __init__(self, arch: RosinalityArchitecture) -> None:
        super().__init__()
        self.arch: RosinalityArchitecture = arch
        widths = arch.widths
        self.mapping = GeneratorMapping(arch)
        self.const = nn.Parameter(torch.randn(widths[0], 4, 4))
        self.conv1 = SynthesisLayer(widths[0], widths[0], 4, arch, up=False)
        self.to_rgb1 = ToRGB(widths[0], arch)
        self.convs = nn.ModuleList()
        self.to_rgbs = nn.ModuleList()
        for index, (below, width) in enumerate(pairwise(widths)):
            self.convs.append(SynthesisLayer(below, width, 8 << index, arch, up=True))
            self.convs.append(SynthesisLayer(width, width, 8 << index, arch, up=False))
            self.to_rgbs.append(RunningToRGB(width, arch))
        self.blocks = ["conv1", *(f"convs.{index}" for index in range(1, len(self.convs), 2))]
        self.num_ws = arch.num_ws
        self.noise_resolutions = [4, *(8 << index // 2 for index in range(len(self.convs)))]

    def synthesise(self, ws: Tensor, noise: Noise) -> Tensor:
        """See `MappedGenerator.synthesise`.

        Raises:
            ValueError: for another number of noise maps than of convolutions.
        """
        num_layers = len(self.noise_resolutions)
        maps: Sequence[Tensor | NoiseMode] = (
            [noise] * num_layers if isinstance(noise, str) else noise
        )
        if len(maps) != num_layers:
            raise ValueError(f"noise: expected {num_layers} maps, got {len(maps)}")
        x = self.conv1(self.const.expand(len(ws), -1, -1, -1), ws[:, 0], maps[0])
        image: Tensor = self.to_rgb1(x, ws[:, 1])
        for index, to_rgb in enumerate(self.to_rgbs):
            first = 2 * index
            if runs_in_half(8 << index, self.arch.resolution, USUAL_HALF_BLOCKS):
                x = x.to(self.half_dtype or x.dtype)
            x = self.convs[first](x, ws[:, first + 1], maps[first + 1])
            x = self.convs[first + 1](x, ws[:, first + 2], maps[first + 2])
            image = to_rgb(x, ws[:, first + 3], image)
        return image


class ResidualBlock(nn.Module):
    """Two convolutions, the second halving the side, and a skip."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = EqualisedConv(in_channels, in_channels, 3)
        self.conv2 = EqualisedConv(in_channels, out_channels, 3, resample="down")
        self.skip = EqualisedConv(in_channels, out_channels, 1, resample="down", is_linear=True)

    def forward(self, x: Tensor) -> Tensor:
        """[B, I, r, r] -> [B, O, r/2, r/2]."""
        y: Tensor = self.conv2(self.conv1(x), RESIDUAL_GAIN) + self.skip(x, RESIDUAL_GAIN)
        return y


class RosinalityDiscriminator(TeacherDiscriminator):
    """Images [B, C, R, R] in [-1, 1] -> logits [B, 1]."""

    def __init__(self, arch: RosinalityDiscriminatorArchitecture) -> None:
        super().__init__()
        self.arch = arch
        widths = arch.widths[::-1]
        self.convs = nn.ModuleList([EqualisedConv(arch.image_channels, widths[0], 1)])
        for above, width in pairwise(widths):
            self.convs.append(ResidualBlock(above, width))
        last = widths[-1]
        self.final_conv = EqualisedConv(last + 1, last, 3)
        self.final_linear = nn.Sequential(
            FullyConnected(last * 16, last, activate=True), FullyConnected(last, 1)
        )
        self.blocks = [*(f"convs.{index}" for index in range(len(self.convs))), "final_conv"]
        self.last = "final_linear.0"

    def forward(self, image: Tensor, labels: Tensor | None = None) -> Tensor:
        """Logits [B, 1], larger means more real; samples of a group see each other."""
        x = image
        for conv in self.convs:
            x = conv(x)
        x = self.final_conv(minibatch_std(x, GROUP_SIZE))
        logits: Tensor = self.final_linear(x.flatten(1))
        return logits

"""FastGAN's discriminator (Liu et al. 2021): patches of an image, and of a small one, judged.

Its repository (odegeasslbc/FastGAN-pytorch) has the same module names. Neighbour: `fastgan.py`.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.teacher.architectures.fastgan import FastGANDiscriminatorArchitecture
from pipeline.teacher.interface import GeneratorOutput, TeacherDiscriminator
from pipeline.teacher.networks.fastgan import SkipExcitation

_SMALL = 128
_STEPS = (4, 8, 16, 32, 64)
_GATES = {16: ("se_2_16", 2), 32: ("se_4_32", 4), 64: ("se_8_64", 8)}
_SLOPE = 0.2


def _halve(in_channels: int, num_channels: int) -> nn.Conv2d:
    return nn.Conv2d(in_channels, num_channels, 4, 2, 1, bias=False)


class DownBlock(nn.Module):
    """Half the side, of the small image."""

    def __init__(self, in_channels: int, num_channels: int) -> None:
        super().__init__()
        self.main = nn.Sequential(
            _halve(in_channels, num_channels), nn.BatchNorm2d(num_channels), nn.LeakyReLU(_SLOPE)
        )

    def forward(self, x: Tensor) -> Tensor:
        """[B, I, r, r] -> [B, C, r/2, r/2]."""
        x = self.main(x)
        return x


class ResidualDownBlock(nn.Module):
    """Half the side, by convolutions and by a mean, averaged."""

    def __init__(self, in_channels: int, num_channels: int) -> None:
        super().__init__()
        self.main = nn.Sequential(
            _halve(in_channels, num_channels),
            nn.BatchNorm2d(num_channels),
            nn.LeakyReLU(_SLOPE),
            nn.Conv2d(num_channels, num_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(num_channels),
            nn.LeakyReLU(_SLOPE),
        )
        self.direct = nn.Sequential(
            nn.AvgPool2d(2),
            nn.Conv2d(in_channels, num_channels, 1, bias=False),
            nn.BatchNorm2d(num_channels),
            nn.LeakyReLU(_SLOPE),
        )

    def forward(self, x: Tensor) -> Tensor:
        """[B, I, r, r] -> [B, C, r/2, r/2]."""
        x = (self.main(x) + self.direct(x)) / 2
        return x


class FastGANDiscriminator(TeacherDiscriminator):
    """Images -> logits [B, 50]: 5x5 patches of the image, then 5x5 of the small image."""

    def __init__(self, arch: FastGANDiscriminatorArchitecture) -> None:
        super().__init__()
        self.arch: FastGANDiscriminatorArchitecture = arch
        *tops, first, w4, w8, w16, w32, w64, head = arch.widths
        widths = dict(zip((2, *_STEPS), (first, w4, w8, w16, w32, w64), strict=True))
        if arch.resolution == 256:
            entry: list[nn.Module] = [nn.Conv2d(arch.image_channels, first, 3, 1, 1, bias=False)]
        else:
            entry = [_halve(arch.image_channels, (*tops, first)[0])]
        entry.append(nn.LeakyReLU(_SLOPE))
        for top in tops:
            entry += [_halve(top, first), nn.BatchNorm2d(first), nn.LeakyReLU(_SLOPE)]
        self.down_from_big = nn.Sequential(*entry)
        for before, step in pairwise(widths):
            self.add_module(f"down_{step}", ResidualDownBlock(widths[before], widths[step]))
        for step, (name, source) in _GATES.items():
            self.add_module(name, SkipExcitation(widths[source], widths[step]))
        self.rf_big = nn.Sequential(
            nn.Conv2d(w64, head, 1, bias=False),
            nn.BatchNorm2d(head),
            nn.LeakyReLU(_SLOPE),
            nn.Conv2d(head, 1, 4, bias=False),
        )
        self.down_from_small = nn.Sequential(
            _halve(arch.image_channels, w4),
            nn.LeakyReLU(_SLOPE),
            *(DownBlock(*pair) for pair in pairwise((w4, w8, w16, w32))),
        )
        self.rf_small = nn.Conv2d(w32, 1, 4, bias=False)
        self.blocks = [_GATES[step][0] if step in _GATES else f"down_{step}" for step in _STEPS]
        self.last = "rf_big.2"

    def forward(self, image: Tensor, labels: Tensor | None = None) -> Tensor:
        """Logits [B, 50] of images [B, C, R, R], whose small version is every so-manieth pixel, as
        for real images in the repository.
        """
        return self.compare(image, F.interpolate(image, size=_SMALL))

    def judge(self, output: GeneratorOutput, labels: Tensor | None = None) -> Tensor:
        """Logits [B, 50] of what a generator made, with the small image that it made beside."""
        if output.small_image is None:
            return super().judge(output, labels)
        return self.compare(output.image, output.small_image)

    def compare(self, image: Tensor, small: Tensor) -> Tensor:
        """[B, C, R, R], [B, C, 128, 128] -> [B, 50]."""
        maps = {2: self.down_from_big(image)}
        for before, step in pairwise((2, *_STEPS)):
            x = self.get_submodule(f"down_{step}")(maps[before])
            if step in _GATES:
                name, source = _GATES[step]
                x = self.get_submodule(name)(maps[source], x)
            maps[step] = x
        logits = self.rf_big(maps[64]), self.rf_small(self.down_from_small(small))
        return torch.cat([part.flatten(1) for part in logits], 1)

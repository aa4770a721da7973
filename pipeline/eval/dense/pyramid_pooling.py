"""Pyramid pooling: what each pixel sees of the whole image (Zhao et al. 2017, PSPNet).

B batch, C channels of a map, D channels of the head, K classes. Neighbour: `upernet.py` puts the
same pooling under a feature pyramid.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import Conv2dNormActivation

POOLED_SIDES = (1, 2, 3, 6)


class PyramidPooling(nn.Module):
    """A map [B, C, h, w] -> [B, D, h, w]: itself beside its means over 1, 4, 9 and 36 regions,
    each put through a 1x1 convolution to D channels and enlarged again, merged by a 3x3 one.
    """

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(side), convolve(in_channels, channels, 1))
            for side in POOLED_SIDES
        )
        self.merge = convolve(in_channels + len(POOLED_SIDES) * channels, channels, 3)

    def forward(self, features: Tensor) -> Tensor:
        """As the class says."""
        pooled = [enlarge(branch(features), features) for branch in self.branches]
        merged: Tensor = self.merge(torch.cat([features, *pooled], 1))
        return merged


class PyramidPoolingHead(nn.Module):
    """Maps of a dilated backbone, of which it uses the last [B, C, h, w] -> logits [B, K, h, w]."""

    def __init__(self, channels_of_maps: Sequence[int], channels: int, num_classes: int) -> None:
        super().__init__()
        self.pooling = PyramidPooling(channels_of_maps[-1], channels)
        self.classify = nn.Sequential(nn.Dropout2d(0.1), nn.Conv2d(channels, num_classes, 1))

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """As the class says."""
        logits: Tensor = self.classify(self.pooling(maps[-1]))
        return logits


def convolve(in_channels: int, channels: int, side: int) -> nn.Sequential:
    """Convolution of `side` that keeps the size, batch normalisation, ReLU."""
    block: nn.Sequential = Conv2dNormActivation(in_channels, channels, side)
    return block


def enlarge(features: Tensor, like: Tensor) -> Tensor:
    """`features` at the height and width of `like`, bilinear."""
    return F.interpolate(features, size=like.shape[2:], mode="bilinear", align_corners=False)


def initialise(head: nn.Module) -> None:
    """Weights of every convolution from a normal distribution of variance 2 / fan-in (He et al.
    2015), from torch's global generator.
    """
    for module in head.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)

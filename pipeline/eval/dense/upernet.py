"""UperNet: pyramid pooling on the coarsest map, a feature pyramid down to the finest, and all of
its levels merged (Xiao et al. 2018; Lin et al. 2017).

B batch, C channels of a map, D channels of the head, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pipeline.eval.dense.pyramid_pooling import PyramidPooling, convolve, enlarge


class UperNetHead(nn.Module):
    """Maps [B, C_k, h_k, w_k], finest first -> logits [B, K, h_1, w_1]."""

    def __init__(self, channels_of_maps: Sequence[int], channels: int, num_classes: int) -> None:
        super().__init__()
        *finer, coarsest = channels_of_maps
        self.pooling = PyramidPooling(coarsest, channels)
        self.laterals = nn.ModuleList(convolve(width, channels, 1) for width in finer)
        self.outputs = nn.ModuleList(convolve(channels, channels, 3) for _ in finer)
        self.merge = convolve(len(channels_of_maps) * channels, channels, 3)
        self.classify = nn.Conv2d(channels, num_classes, 1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """As the class says."""
        *finer, coarsest = maps
        top = self.pooling(coarsest)
        levels = [top]
        for index in reversed(range(len(finer))):
            side = self.laterals[index](finer[index])
            top = side + enlarge(top, side)
            levels.insert(0, self.outputs[index](top))
        merged = self.merge(torch.cat([enlarge(level, levels[0]) for level in levels], 1))
        logits: Tensor = self.classify(merged)
        return logits

"""The squeeze module T_φ: pooled features of all blocks -> squeezed representation (Yang et al.
2022, section 3.2).

B batch, C_l channels of block l, D embedding dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class SqueezeModule(nn.Module):
    """One Linear(C_l -> D) per block, summed; then [Linear-BN-ReLU] twice and a last Linear.

    The sum of per-block linear maps is one linear map of the concatenation; per-block layers are
    kept because each initialises by its own fan-in, as in the release.
    """

    def __init__(self, block_channels: Sequence[int], embedding_dim: int) -> None:
        super().__init__()
        self.block_channels = list(block_channels)
        self.blocks = nn.ModuleList(
            nn.Linear(channels, embedding_dim) for channels in block_channels
        )
        layers: list[nn.Module] = []
        for _ in range(2):
            layers += [
                nn.Linear(embedding_dim, embedding_dim, bias=False),
                nn.BatchNorm1d(embedding_dim),
                nn.ReLU(),
            ]
        self.head = nn.Sequential(*layers, nn.Linear(embedding_dim, embedding_dim))

    def forward(self, pooled: Tensor) -> Tensor:
        """`pooled` [B, Σ C_l] float32 -> squeezed [B, D]."""
        parts = pooled.split(self.block_channels, 1)
        projected = torch.stack(
            [layer(part) for layer, part in zip(self.blocks, parts, strict=True)]
        ).sum(0)
        squeezed: Tensor = self.head(projected)
        return squeezed

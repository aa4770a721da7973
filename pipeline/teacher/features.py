"""Block features -> pooled features (Yang et al. 2022, Eq. 4)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def pool_features(features: Mapping[str, Tensor]) -> Tensor:
    """h^g = [μ(h_1), …, μ(h_L)]: the spatial mean of every block, end to end.

    Args:
        features: block name -> [B, C_l, r_l, r_l], in block order.

    Returns:
        [B, Σ C_l] float32.
    """
    return torch.cat([block.float().mean((2, 3)) for block in features.values()], 1)

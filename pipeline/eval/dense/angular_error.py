"""Angles between predicted and true surface normals, of all pixels of a test set together (Fouhey
et al. 2013).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

WITHIN_DEG = (11.25, 22.5, 30.0)
_BINS_PER_DEG = 1000


class AngularError:
    """Gathers angles on `device`; a histogram of them, from which the median is read to within
    0.001 degrees, is all that grows with none of them.
    """

    def __init__(self, device: torch.device) -> None:
        self._histogram = torch.zeros(180 * _BINS_PER_DEG, dtype=torch.int64, device=device)
        self._within = torch.zeros(len(WITHIN_DEG), dtype=torch.int64, device=device)
        self._total = torch.zeros((), dtype=torch.float64, device=device)

    def add(self, predicted: Tensor, normals: Tensor) -> None:
        """Account for an image: float32 [3, H, W] of any length; true zeros do not count."""
        is_known = has_normal(normals)
        angles = angles_deg(predicted[:, is_known], normals[:, is_known])
        bins = (angles * _BINS_PER_DEG).long().clamp(max=len(self._histogram) - 1)
        self._histogram += torch.bincount(bins, minlength=len(self._histogram))
        self._within += torch.stack([(angles < limit).sum() for limit in WITHIN_DEG])
        self._total += angles.sum()

    def compute(self) -> dict[str, float]:
        """`mean_deg`, `median_deg`, percent `within_11.25_deg` …; all 0 without a normal."""
        counts = self._histogram.cpu().cumsum(0)
        num_pixels = int(counts[-1])
        scale = 1 / max(num_pixels, 1)
        middle = int(torch.searchsorted(counts, (num_pixels + 1) // 2)) if num_pixels else -0.5
        within = (100 * scale * self._within.cpu()).tolist()
        return {
            "mean_deg": float(self._total) * scale,
            "median_deg": (middle + 0.5) / _BINS_PER_DEG,
            **{
                f"within_{limit:g}_deg": share
                for limit, share in zip(WITHIN_DEG, within, strict=True)
            },
        }


def has_normal(normals: Tensor) -> Tensor:
    """Which pixels of [..., 3, H, W] have a normal, and not zeros or NaN; bool [..., H, W]."""
    lengths: Tensor = normals.norm(dim=-3)
    return lengths > 1e-3


def angles_deg(predicted: Tensor, normals: Tensor) -> Tensor:
    """Angles in degrees, float64 [N], between the columns of [3, N] and [3, N]."""
    cosines = (F.normalize(predicted.double(), dim=0) * F.normalize(normals.double(), dim=0)).sum(0)
    return torch.rad2deg(torch.acos(cosines.clamp(-1, 1)))

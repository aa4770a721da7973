"""Distances between two sets of features, whatever network made them: the Fréchet distance (Heusel
et al. 2017) between the Gaussians fitted to them and the squared maximum mean discrepancy (Gretton
et al. 2012), which with the cubic kernel is the kernel distance (Bińkowski et al. 2018).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Kernel = Callable[[Tensor, Tensor], Tensor]
"""Values [A, B] of a symmetric kernel for features [A, D] and [B, D], all float64."""

TILE = 2048  # rows and columns of one block of kernel values: 32 MB


@dataclass(frozen=True)
class Moments:
    """Mean [D] and unbiased covariance [D, D] of features, float64."""

    mean: Tensor
    covariance: Tensor

    @classmethod
    def from_features(cls, features: Tensor) -> Moments:
        """Moments of `features` [N, D], N at least 2.

        Raises:
            ValueError: for fewer, or if one is not finite.
        """
        _check_features(features)
        features = features.double()
        return cls(features.mean(0), torch.atleast_2d(features.T.cov()))


def frechet_distance(a: Moments, b: Moments) -> float:
    """|m_a - m_b|² + Tr(C_a + C_b - 2 (C_a C_b)^½), Heusel et al. 2017, Eq. 6; at least 0.

    The last trace is the sum of singular values of A^T B for C_a = A A^T, C_b = B B^T, which needs
    no full rank: N may be less than D. Biased upwards for small N: compare at equal N only.
    """
    root_a, root_b = (_root(moments.covariance) for moments in (a, b))
    overlap = torch.linalg.svdvals(root_a.T @ root_b).sum()
    traces = a.covariance.trace() + b.covariance.trace()
    return max(float((a.mean - b.mean).square().sum() + traces - 2 * overlap), 0.0)


def _root(covariance: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(covariance)
    root: Tensor = vectors * values.clamp(min=0).sqrt()
    return root


@dataclass(frozen=True)
class SquaredMMD:
    """An unbiased estimate of the squared maximum mean discrepancy, and its standard error."""

    value: float
    standard_error: float


def cubic_kernel(x: Tensor, y: Tensor) -> Tensor:
    """(x·y / D + 1)³, Bińkowski et al. 2018, section 4; not indifferent to the features' scale."""
    kernel: Tensor = (x @ y.T / x.shape[1] + 1) ** 3
    return kernel


def rbf_kernel(bandwidth: float) -> Kernel:
    """exp(-|x - y|² / (2 `bandwidth`²))."""

    def kernel(x: Tensor, y: Tensor) -> Tensor:
        squares = x.square().sum(1)[:, None] + y.square().sum(1) - 2 * (x @ y.T)
        values: Tensor = (squares.clamp_(min=0) / (-2 * bandwidth**2)).exp_()
        return values

    return kernel


def squared_mmd(x: Tensor, y: Tensor, kernel: Kernel) -> SquaredMMD:
    """Squared maximum mean discrepancy of `x` [N, D] and `y` [M, D], Gretton et al. 2012, Eq. 3.

    Unbiased, so around 0, and below it as often as not, for two sets from one source. The standard
    error is the jackknife's over the samples of both sets, in closed form from the kernel's row
    sums; NaN where a set has only two. It is consistent for two distributions and too large by
    about √2 for one (Efron and Stein 1981: never too small on average).

    Computed in float64 on the device of `x` and `y`, in tiles: memory does not grow with N M.

    Raises:
        ValueError: for fewer than two samples, or if a feature is not finite.
    """
    _check_features(x)
    _check_features(y)
    within_x, within_y = _sum_within(x, kernel), _sum_within(y, kernel)  # [N], [M]
    across_x, across_y = _sum_across(x, y, kernel)  # [N], [M]
    num_x, num_y = len(x), len(y)
    value = within_x.sum() / (num_x * (num_x - 1)) + within_y.sum() / (num_y * (num_y - 1))
    value -= 2 * across_x.sum() / (num_x * num_y)
    variance = _jackknife_variance(within_x, across_x, num_y)
    variance += _jackknife_variance(within_y, across_y, num_x)
    return SquaredMMD(float(value), float(variance.sqrt()))


def _sum_within(x: Tensor, kernel: Kernel) -> Tensor:
    """Sums [N] of the kernel of each of `x` with all the others."""
    sums = x.new_zeros(len(x), dtype=torch.float64)
    for i in range(0, len(x), TILE):
        rows = slice(i, i + TILE)
        tile = kernel(x[rows].double(), x[rows].double()).fill_diagonal_(0)
        sums[rows] += tile.sum(1)
        for j in range(i + TILE, len(x), TILE):
            columns = slice(j, j + TILE)
            tile = kernel(x[rows].double(), x[columns].double())
            sums[rows] += tile.sum(1)
            sums[columns] += tile.sum(0)
    return sums


def _sum_across(x: Tensor, y: Tensor, kernel: Kernel) -> tuple[Tensor, Tensor]:
    """Sums [N] of the kernel of each of `x` with all `y`, and [M] the other way round."""
    sums_x = x.new_zeros(len(x), dtype=torch.float64)
    sums_y = y.new_zeros(len(y), dtype=torch.float64)
    for i in range(0, len(x), TILE):
        for j in range(0, len(y), TILE):
            rows, columns = slice(i, i + TILE), slice(j, j + TILE)
            tile = kernel(x[rows].double(), y[columns].double())
            sums_x[rows] += tile.sum(1)
            sums_y[columns] += tile.sum(0)
    return sums_x, sums_y


def _jackknife_variance(within: Tensor, across: Tensor, num_others: int) -> Tensor:
    """What one set, of sums `within` [N] and `across` [N], contributes to the estimate's variance:
    from its N values that leave out one sample each, up to what they have in common.
    """
    count = len(within)
    left = (within.sum() - 2 * within) / ((count - 1) * (count - 2))
    left -= 2 * (across.sum() - across) / ((count - 1) * num_others)
    return (count - 1) / count * (left - left.mean()).square().sum()


def kernel_distance(x: Tensor, y: Tensor) -> float:
    """Squared maximum mean discrepancy of `x` [N, D] and `y` [M, D] with the cubic kernel
    (Bińkowski et al. 2018, section 4); raises as `squared_mmd`. Time grows with (N + M)².
    """
    return squared_mmd(x, y, cubic_kernel).value


def _check_features(features: Tensor) -> None:
    if len(features) < 2:
        raise ValueError(f"a distance needs at least two samples, not {len(features)}")
    if not features.isfinite().all():
        raise ValueError("a feature is not finite")

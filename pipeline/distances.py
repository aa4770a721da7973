"""Distances between two sets of features, whatever network made them: the Fréchet distance (Heusel
et al. 2017) between the Gaussians fitted to them and the kernel distance (Bińkowski et al. 2018).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


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


def kernel_distance(
    x: Tensor, y: Tensor, *, max_samples: int, generator: torch.Generator | None = None
) -> float:
    """Squared maximum mean discrepancy with the kernel (x·y / D + 1)³, Bińkowski et al. 2018,
    section 4.

    Unbiased at any N, so around 0, and below it as often as not, for two sets from one source.
    Memory and time grow with the square of `max_samples`.

    Args:
        x: features [N, D].
        y: features [M, D].
        max_samples: of each set, at least 2.
        generator: on the CPU; draws the samples of a larger set, whose first ones count otherwise.

    Raises:
        ValueError: for fewer than two samples, or if a feature is not finite.
    """
    x, y = (_take(features, max_samples, generator).double() for features in (x, y))
    within = _mean_off_diagonal(_kernel(x, x)) + _mean_off_diagonal(_kernel(y, y))
    return float(within - 2 * _kernel(x, y).mean())


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    kernel: Tensor = (x @ y.T / x.shape[1] + 1) ** 3
    return kernel


def _mean_off_diagonal(kernel: Tensor) -> Tensor:
    mean: Tensor = (kernel.sum() - kernel.trace()) / (len(kernel) * (len(kernel) - 1))
    return mean


def _take(features: Tensor, max_samples: int, generator: torch.Generator | None) -> Tensor:
    if len(features) > max_samples and generator is not None:
        rows = torch.randperm(len(features), generator=generator)[:max_samples]
        features = features[rows.to(features.device)]
    features = features[:max_samples]
    _check_features(features)
    return features


def _check_features(features: Tensor) -> None:
    if len(features) < 2:
        raise ValueError(f"a distance needs at least two samples, not {len(features)}")
    if not features.isfinite().all():
        raise ValueError("a feature is not finite")

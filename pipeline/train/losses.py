"""The three terms and two objectives of squeeze and span (Yang et al. 2022, Eq. 6 and 9-12).

All of them are functions of the *global* batch: a method gathers embeddings over the workers first,
so the objective does not depend on their number. N batch, M embedding dimensions. The regularisers
are VICReg's (Bardes et al. 2022).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.config.method import SqueezeAndSpanConfig, VicRegConfig

VARIANCE_EPSILON = 1e-4


@dataclass(frozen=True)
class LossWeights:
    """λ, μ and ν of Eq. 11 and 12."""

    invariance: float
    variance: float
    covariance: float

    @classmethod
    def of(cls, options: SqueezeAndSpanConfig | VicRegConfig) -> LossWeights:
        """Those of a method's settings."""
        return cls(options.invariance_weight, options.variance_weight, options.covariance_weight)


@dataclass(frozen=True)
class Convention:
    """How the two sides' variance and covariance terms are added up: a factor for each."""

    variance: tuple[float, float]
    covariance: tuple[float, float]


PAPER = Convention((1, 1), (1, 1))
"""Both sides' terms are summed (Yang et al. 2022, Eq. 11)."""
OFFICIAL = Convention((0.5, 0.5), (1, 1))
"""VICReg's own code halves the variance terms."""
STUDENT_ONLY = Convention((1, 0), (1, 0))
"""The paper's released code leaves the squeezed features alone."""


@dataclass(frozen=True)
class ObjectiveTerms:
    """One objective, scalar tensors; `total` = λ invariance + μ variance + ν covariance."""

    invariance: Tensor
    variance: Tensor
    covariance: Tensor
    total: Tensor

    def named(self, objective: str) -> dict[str, Tensor]:
        """The three terms, under the objective's name."""
        terms = ("invariance", "variance", "covariance")
        return {f"{objective}_{name}": getattr(self, name) for name in terms}


def invariance_loss(first: Tensor, second: Tensor) -> Tensor:
    """Mean squared error of two [N, M] tensors over both axes (Yang et al. 2022, Eq. 6)."""
    return (first - second).square().mean()


def variance_loss(embedding: Tensor) -> Tensor:
    """Hinge that keeps each dimension's standard deviation at 1 (Yang et al. 2022, Eq. 9).

    Mean over dimensions of max(0, 1 - √(Var(z_j) + ε)) of `embedding` [N, M], N >= 2, unbiased
    variance.
    """
    std = (embedding.var(0) + VARIANCE_EPSILON).sqrt()
    return torch.relu(1 - std).mean()


def covariance_loss(embedding: Tensor) -> Tensor:
    """Sum of squared off-diagonal covariances of `embedding` [N, M], divided by M (Yang et al.
    2022, Eq. 10).

    With fewer samples than dimensions it is taken from the [N, N] products of samples, whose
    squares have the same sum as those of the [M, M] covariances: an eighth of the arithmetic at
    256 x 2048.
    """
    num_samples, num_dims = embedding.shape
    centred = embedding - embedding.mean(0)
    with torch.autocast(centred.device.type, enabled=False):
        if num_samples < num_dims:
            products = centred @ centred.T / (num_samples - 1)  # [N, N]
            variances = centred.square().sum(0) / (num_samples - 1)  # [M], the diagonal
            return (products.square().sum() - variances.square().sum()) / num_dims
        covariance = centred.T @ centred / (num_samples - 1)  # [M, M]
    off_diagonal = covariance - covariance.diagonal().diag()
    return off_diagonal.square().sum() / num_dims


def regularised_alignment(
    first: Tensor, second: Tensor, weights: LossWeights, convention: Convention = PAPER
) -> ObjectiveTerms:
    """λ MSE(a, b) + μ [L_var(a) + L_var(b)] + ν [L_cov(a) + L_cov(b)] of two [N, M] tensors, the
    sums weighted by `convention`.

    The squeeze objective is this on (student's embedding of a view, squeezed teacher features) of
    synthetic samples (Yang et al. 2022, Eq. 11); the span objective on the embeddings of two views
    of real images (Eq. 12), and VICReg likewise.
    """
    invariance = invariance_loss(first, second)
    variance = _weighted(convention.variance, variance_loss(first), variance_loss(second))
    covariance = _weighted(convention.covariance, covariance_loss(first), covariance_loss(second))
    total = (
        weights.invariance * invariance
        + weights.variance * variance
        + weights.covariance * covariance
    )
    return ObjectiveTerms(invariance, variance, covariance, total)


def _weighted(factors: tuple[float, float], first: Tensor, second: Tensor) -> Tensor:
    return factors[0] * first + factors[1] * second


def embedding_std(embedding: Tensor) -> Tensor:
    """Mean over dimensions of the deviation of `embedding` [N, M]; 0 is collapse to a point."""
    return embedding.detach().std(0).mean()


def effective_rank(embedding: Tensor) -> Tensor:
    """exp of the entropy of the normalised singular values of centred `embedding` [N, M] (Roy &
    Vetterli 2007).

    Between 1 (collapse to a line) and min(N - 1, M); 0 where all samples are equal.
    """
    centred = embedding.detach().double()
    centred = centred - centred.mean(0)
    wide = centred.shape[1] > centred.shape[0]
    gram = (
        centred @ centred.T if wide else centred.T @ centred
    )  # the smaller one: the same non-zero spectrum
    values = torch.linalg.eigvalsh(gram).clamp_min(0).sqrt()
    total = values.sum()
    share = values / total.clamp_min(torch.finfo(total.dtype).tiny)
    rank = torch.exp(-(share * share.clamp_min(1e-30).log()).sum())
    return torch.where(total > 0, rank, 0).float()

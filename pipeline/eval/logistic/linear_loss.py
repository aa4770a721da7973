"""The objective of a linear classifier with an L2 penalty: value, gradient and the Hessian's
diagonal, in one pass over the features.

mean_n loss(x_n W, y_n) + penalty/2 |W|²  over W [D + 1, K], whose last row, the bias, has no
penalty. `lbfgs.py` minimises it, `streamed.py` has it of features that do not fit into memory.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import softplus

_CHUNK_BYTES = {
    "cpu": 2**22,
    "cuda": 2**30,
}  # of features; on the CPU what a core's own cache holds


class Pointwise(Protocol):
    """A loss of rows of logits with its derivatives."""

    def __call__(self, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of `logits` [B, K], which may be overwritten, for `targets` [B] or [B, K]: losses to be
        summed; gradients [B, K]; the second derivative's diagonal summed over rows, [K].
        """


def _widest(logits: Tensor) -> float:
    """Margin beyond which a probability (4e-29 in float32) is not told from smaller ones: products
    of matrices with subnormal numbers take ten times as long on a CPU.
    """
    return -0.75 * math.log(torch.finfo(logits.dtype).tiny)


def softmax_loss(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Cross-entropy of softmax for `targets` [B] int64, as `Pointwise` says.

    Everything is relative to the target's own logit, so that the tiny gradient of a sample with a
    wide margin keeps its relative precision.
    """
    own = targets[:, None]
    margins = logits.sub_(logits.gather(1, own))
    shift = margins.amax(1, keepdim=True)  # 0 where the sample is right
    odds = margins.sub_(shift).clamp_(min=-_widest(margins)).exp_().scatter_(1, own, 0)
    others, true = odds.sum(1, keepdim=True), (-shift).exp()
    total = others + true
    losses = torch.where(shift > 0, shift + total.log(), others.log1p())
    probabilities = odds.div_(total)  # but for the target's, which is true / total
    curvatures = torch.addcmul(probabilities, probabilities, probabilities, value=-1)
    wrong = others / total
    curvatures.scatter_(1, own, wrong * true / total)
    return losses, probabilities.scatter_(1, own, -wrong), curvatures.sum(0)


def sigmoid_loss(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Binary cross-entropy of every class for `targets` [B, K] floats, 0 or 1, as `Pointwise` says:
    K separate problems, each class against the rest.
    """
    signs = 2 * targets - 1
    margins = logits.mul_(signs).clamp_(max=_widest(logits))
    wrong = torch.sigmoid(-margins)
    curvatures = wrong * torch.sigmoid(margins)
    return softplus(-margins, threshold=1e3), -signs * wrong, curvatures.sum(0)


@dataclass(frozen=True)
class ObjectiveAt:
    """The objective at some weights."""

    value: float
    gradient: Tensor
    """[D + 1, K]."""
    diagonal: Tensor
    """[D + 1, K], positive: the Hessian's diagonal, if features and curvature are independent."""

    @property
    def excess(self) -> float:
        """Estimate of how far `value` is above the minimum: what a Newton step with `diagonal`
        gains. Of 40,000 samples with a condition number of 1e7 it was true within a factor of 3; of
        60 or 260 samples in 30 dimensions, whose curvature lies in few of them, up to 300 times too
        small.
        """
        return float((self.gradient.square() / self.diagonal).sum(dtype=torch.float64)) / 2


@dataclass(frozen=True)
class Objective:
    """The mean loss on one data set, whose features are its principal components."""

    features: Tensor
    """[N, D + 1] floats: D centred, uncorrelated features and a 1."""
    variances: Tensor
    """[D + 1], of each feature; 1 for the last."""
    targets: Tensor
    """[N] or [N, K], as `loss` wants them."""
    loss: Pointwise

    def at(self, weights: Tensor, penalty: float) -> ObjectiveAt:
        """Everything at `weights` [D + 1, K] float64, computed in the features' type. Every chunk
        of rows is read from memory once, for both matrix products.
        """
        weights = weights.to(self.features)
        sums = LossSums.zeros(weights)
        sums.add(self.features, self.targets, weights, self.loss)
        return sums.objective(weights, penalty, self.variances, len(self.features))


@dataclass
class LossSums:
    """Sums over rows at some weights, to which rows are added chunk by chunk."""

    loss: Tensor
    """Float64."""
    gradient: Tensor
    """[D + 1, K], without the penalty's."""
    curvature: Tensor
    """[K] float64: second derivatives by the bias."""

    @classmethod
    def zeros(cls, weights: Tensor) -> LossSums:
        """Of no row, for `weights` [D + 1, K]."""
        loss = weights.new_zeros((), dtype=torch.float64)
        curvature = weights.new_zeros(weights.shape[1], dtype=torch.float64)
        return cls(loss, torch.zeros_like(weights), curvature)

    def add(self, features: Tensor, targets: Tensor, weights: Tensor, loss: Pointwise) -> None:
        """Those of the rows `features` [N, D + 1] and `targets` at `weights` of the same type."""
        num_rows, num_columns = features.shape
        chunk_bytes = _CHUNK_BYTES[features.device.type]
        step = max(1, chunk_bytes // (num_columns * features.element_size()))
        for start in range(0, num_rows, step):
            rows = features[start : start + step]
            losses, slopes, curvatures = loss(rows @ weights, targets[start : start + step])
            self.gradient.addmm_(rows.T, slopes)
            self.loss += losses.sum(dtype=torch.float64)
            self.curvature += curvatures

    def objective(
        self, weights: Tensor, penalty: float, variances: Tensor, num_rows: int
    ) -> ObjectiveAt:
        """The mean over `num_rows` and the penalty, for features with `variances` [D + 1]."""
        shrinking = weights.clone()
        shrinking[-1] = 0
        shrunk = penalty / 2 * shrinking.square().sum(dtype=torch.float64)
        diagonal = torch.outer(variances, self.curvature.to(weights) / num_rows)
        diagonal[:-1] += penalty
        diagonal.clamp_(min=torch.finfo(weights.dtype).tiny)
        gradient = self.gradient / num_rows + penalty * shrinking
        return ObjectiveAt(float(self.loss / num_rows + shrunk), gradient, diagonal)

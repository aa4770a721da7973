"""Logistic regression with an L2 penalty on frozen representations, for all values of C at once:
multinomial, or each class against the rest. `choose_penalty.py` chooses among the values.

The optimum is scikit-learn's (`LogisticRegression`): C · (sum of losses) + |W|²/2, the bias without
penalty; and so is the method, L-BFGS (`lbfgs.py`). What makes it quick is that the features are
rotated into their principal axes, where the Hessian is nearly diagonal, and every weight is
measured in units of its curvature; that the values of C are taken in rising order, each started
where the line through the two before it points; and one pass over the features per evaluation.
`python -m benchmarks.speed.probe` has the figures.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.eval.logistic.lbfgs import Limit, Solution, minimise
from pipeline.eval.logistic.linear_loss import Objective, Pointwise, sigmoid_loss, softmax_loss
from pipeline.eval.logistic.principal_axes import PrincipalAxes

TOLERANCE = 1e-7
_ROUGHLY = 1e-5
_ROWS = 8192


@dataclass(frozen=True)
class LogisticFit:
    """A fitted linear classifier, on the device where it was fitted."""

    weight: Tensor
    """[K, D] float64: with a weak penalty the weights of nearly constant directions are large and
    cancel, which float32 does not stand.
    """
    bias: Tensor
    """[K] float64; -inf for a class that had no sample."""
    C: float
    """Inverse penalty, in scikit-learn's convention."""
    objective: float
    """Mean loss (of classes fitted against the rest the sum of theirs) plus |W|² / (2 C N)."""
    excess: float
    """Estimate of how far `objective` is above the minimum."""
    num_passes: int
    """Evaluations of the objective: passes over the features, two matrix products each."""
    is_converged: bool
    """Whether `excess` is within the tolerance."""

    def scores(self, features: Tensor) -> Tensor:
        """Logits [M, K] float64 of `features` [M, D]."""
        parts = [
            torch.addmm(self.bias, rows.to(self.weight), self.weight.T)
            for rows in features.split(_ROWS)
        ]
        return torch.cat(parts)

    def predict(self, features: Tensor) -> Tensor:
        """Most likely class [M] int64 of `features` [M, D]."""
        return self.scores(features).argmax(1)


class LogisticPath:
    """Fits of one data set for rising values of C; deterministic on the CPU.

    As in scikit-learn two classes are one weight vector w, of which the fit has the halves -w/2 and
    w/2.

    Args:
        features: [N, D] float32, or float64 to compute in that; used as they are: whoever wants
            them centred or scaled does that.
        labels: [N] int64 for the multinomial model, in which absent classes get no probability; or
            [N, K], 0 or 1, for each class against the rest.
        num_classes: K.
        device: where to compute.
        start: a fit of similar data, to begin with; it changes the time, not the optimum.

    Raises:
        ValueError: if a feature is not finite, a label out of range, fewer than two classes have
            samples, or all rows or none are of a class that is fitted against the rest.
    """

    def __init__(
        self,
        features: Tensor,
        labels: Tensor,
        *,
        num_classes: int,
        device: torch.device,
        start: LogisticFit | None = None,
    ) -> None:
        _check(features, labels, num_classes)
        features, labels = features.to(device), labels.to(device)
        present = torch.arange(num_classes, device=device)
        loss: Pointwise = sigmoid_loss
        if labels.ndim == 1:
            loss = softmax_loss
            present, labels = labels.unique(return_inverse=True)
        else:
            labels = labels.to(features.dtype)
        self._axes = axes = PrincipalAxes.of(features)
        variances = torch.cat([axes.variances, axes.variances.new_ones(1)]).to(features.dtype)
        self._objective = Objective(axes.project(features), variances, labels, loss)
        self._num_classes, self._present = num_classes, present
        self._first = _prior(self._objective, len(present))
        self._loss_of_shares = self._objective.at(self._first, 0).value
        if start is not None:
            begun = axes.rotate(start.weight.to(device)[present], start.bias.to(device)[present])
            self._first = torch.where(begun.isfinite().all(0), begun, self._first)
        # |W|² of two opposite halves is half of |w|²
        halves = 2 if labels.ndim == 1 and len(present) == 2 else 1
        self._penalty = halves / len(features)  # for C = 1
        self._path: list[tuple[float, Solution]] = []

    def fit(self, C: float, tolerance: float = TOLERANCE, *, roughly: bool = False) -> LogisticFit:
        """The fit for `C`, above that of the call before; or the same, to go on from there.

        Args:
            C: inverse penalty, positive.
            tolerance: estimated excess over the optimum, as a share of the objective; float32
                reaches 1e-8.
            roughly: accept an excess of 1e-5 of the loss of knowing only how frequent the classes
                are (log 10 for ten equal ones). With a weak penalty, where classes are separable,
                the objective vanishes, and ever larger weights are sought that predict the same.

        Raises:
            ValueError: if C is not positive and finite.
        """
        if not 0 < C < math.inf:
            raise ValueError(f"C is {C}, not a positive number")
        limit = Limit(tolerance, _ROUGHLY * self._loss_of_shares if roughly else 0.0)
        penalty = self._penalty / C
        if self._path and self._path[-1][0] == C:
            begun = self._path.pop()[1]
        else:
            start = self._extrapolate(C)
            begun = Solution(start, self._objective.at(start, penalty), 1)
        solution = minimise(self._objective, begun, penalty, limit)
        self._path = [*self._path[-1:], (C, solution)]
        return self._as_fit(solution, C, limit)

    def _extrapolate(self, C: float) -> Tensor:
        """Where the last two solutions point, linear in log C, at most as far as they are apart."""
        if len(self._path) < 2:
            return self._path[0][1].weights if self._path else self._first
        (before, older), (last, newer) = self._path
        share = min(1.0, math.log(C / last) / math.log(last / before))
        return newer.weights + share * (newer.weights - older.weights)

    def _as_fit(self, solution: Solution, C: float, limit: Limit) -> LogisticFit:
        mean = self._axes.mean
        weight = mean.new_zeros(self._num_classes, len(mean))
        bias = mean.new_full((self._num_classes,), -math.inf)
        weight[self._present], bias[self._present] = self._axes.rotate_back(solution.weights)
        value, excess = solution.point.value, solution.point.excess
        is_converged = excess <= limit.at(value)
        return LogisticFit(weight, bias, C, value, excess, solution.num_passes, is_converged)


def fit_logistic(
    features: Tensor,
    labels: Tensor,
    inverse_penalties: Sequence[float],
    *,
    num_classes: int,
    device: torch.device,
    start: LogisticFit | None = None,
    tolerance: float = TOLERANCE,
) -> list[LogisticFit]:
    """One fit for each of `inverse_penalties`, in their order; see `LogisticPath` for the rest.

    Raises:
        ValueError: as `LogisticPath` and its `fit`.
    """
    path = LogisticPath(features, labels, num_classes=num_classes, device=device, start=start)
    found = {C: path.fit(C, tolerance) for C in sorted(set(inverse_penalties))}
    return [found[C] for C in inverse_penalties]


def _check(features: Tensor, labels: Tensor, num_classes: int) -> None:
    if not features.isfinite().all():
        raise ValueError("a feature is not finite")
    if labels.ndim == 1:
        if len(labels.unique()) < 2:
            raise ValueError("labels: fewer than two classes have samples")
        if labels.min() < 0 or labels.max() >= num_classes:
            raise ValueError(f"labels: not all are in 0..{num_classes - 1}")
        return
    if labels.shape[1] != num_classes or not ((labels == 0) | (labels == 1)).all():
        raise ValueError(f"labels: not 0 or 1 for each of {num_classes} classes")
    counts = labels.sum(0)
    for label in ((counts == 0) | (counts == len(labels))).nonzero().flatten().tolist():
        raise ValueError(f"labels: all rows or none are of class {label}")


def _prior(objective: Objective, num_classes: int) -> Tensor:
    """Weights that know the shares of the classes only, float64: the optimum for C = 0."""
    labels, num_rows = objective.targets, len(objective.targets)
    weights = labels.new_zeros(objective.features.shape[1], num_classes, dtype=torch.float64)
    if labels.ndim == 1:
        weights[-1] = (labels.bincount(minlength=num_classes).double() / num_rows).log()
    else:
        weights[-1] = labels.double().mean(0).logit()
    return weights

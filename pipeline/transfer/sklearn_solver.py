"""scikit-learn's logistic regression as a solver of the transfer probes: on the CPU, and slow on
the large data sets.

Neighbour: `evaluate.py` has the interface.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from pipeline.transfer.scores import score
from pipeline.transfer.sets import Metric

MAX_ITERATIONS = 1000


@dataclass(frozen=True)
class SklearnModel:
    """One multinomial regression, or one for each class of a multi-label data set."""

    inverse_penalty: float
    heads: tuple[LogisticRegression, ...]
    num_classes: int
    is_multi_label: bool

    def scores(self, representations: np.ndarray) -> np.ndarray:
        """Logits [N, K] of `representations` [N, D]; -inf for labels that were never seen."""
        found = np.full((len(representations), self.num_classes), -np.inf)
        if self.is_multi_label:
            for column, head in enumerate(self.heads):
                found[:, column] = head.decision_function(representations)
            return found
        (head,) = self.heads
        logits = head.decision_function(representations)
        if logits.ndim == 1:  # two classes: the logit of the second over the first
            logits = np.stack([np.zeros_like(logits), logits], 1)
        found[:, head.classes_] = logits
        return found


class SklearnSolver:
    """Implements `pipeline.transfer.evaluate.Solver`.

    Each C starts from the solution of the one before, so `grid` should rise: the strongest penalty
    is solved fastest.
    """

    def __init__(self, metric: Metric) -> None:
        self.metric = metric

    def fit(
        self,
        train: np.ndarray,
        labels: np.ndarray,
        val: np.ndarray,
        val_labels: np.ndarray,
        grid: tuple[float, ...],
    ) -> SklearnModel:
        """See `Solver.fit`."""
        train, val = train.astype(np.float64), val.astype(np.float64)
        is_multi_label = labels.ndim == 2
        num_classes = (
            labels.shape[1] if is_multi_label else int(max(labels.max(), val_labels.max())) + 1
        )
        num_heads = num_classes if is_multi_label else 1
        heads = _unfitted(num_heads)
        best = (-np.inf, 0.0)
        for inverse_penalty in sorted(grid):
            _fit(heads, inverse_penalty, train, labels)
            model = SklearnModel(inverse_penalty, heads, num_classes, is_multi_label)
            best = max(best, (score(self.metric, val_labels, model.scores(val)), inverse_penalty))
        heads = _unfitted(num_heads)  # validation may have labels that the train images lack
        _fit(heads, best[1], np.concatenate([train, val]), np.concatenate([labels, val_labels]))
        return SklearnModel(best[1], heads, num_classes, is_multi_label)


def _unfitted(num_heads: int) -> tuple[LogisticRegression, ...]:
    return tuple(
        LogisticRegression(max_iter=MAX_ITERATIONS, warm_start=True) for _ in range(num_heads)
    )


def _fit(
    heads: tuple[LogisticRegression, ...],
    inverse_penalty: float,
    vectors: np.ndarray,
    labels: np.ndarray,
) -> None:
    with warnings.catch_warnings():
        # the weakest penalties may not converge on separable data
        warnings.simplefilter("ignore", ConvergenceWarning)
        for head, targets in zip(
            heads, labels.T if labels.ndim == 2 else labels[None], strict=True
        ):
            head.set_params(C=inverse_penalty).fit(vectors, targets)

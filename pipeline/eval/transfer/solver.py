"""The solver of the transfer probes: logistic regressions of all penalties together.

Neighbours: `evaluate.py` has the interface, `eval/logistic/` the arithmetic.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pipeline.eval.logistic.choose_penalty import Labelled, choose_and_fit
from pipeline.eval.logistic.regression import LogisticFit
from pipeline.eval.transfer.scores import score
from pipeline.eval.transfer.sets import Metric


@dataclass(frozen=True)
class LogisticModel:
    """One multinomial regression, or one for each class of a multi-label data set."""

    fit: LogisticFit

    @property
    def inverse_penalty(self) -> float:
        """C."""
        return self.fit.C

    def scores(self, representations: np.ndarray) -> np.ndarray:
        """Logits [N, K] of `representations` [N, D]; -inf for labels that were never seen."""
        device = self.fit.weight.device
        found: np.ndarray = (
            self.fit.scores(torch.from_numpy(representations).to(device)).cpu().numpy()
        )
        return found


class LogisticSolver:
    """Implements `pipeline.eval.transfer.evaluate.Solver`."""

    def __init__(self, metric: Metric, device: torch.device) -> None:
        self.metric = metric
        self.device = device

    def fit(
        self,
        train: np.ndarray,
        labels: np.ndarray,
        val: np.ndarray,
        val_labels: np.ndarray,
        grid: tuple[float, ...],
    ) -> LogisticModel:
        """See `Solver.fit`."""
        is_multi_label = labels.ndim == 2
        num_classes = (
            labels.shape[1] if is_multi_label else int(max(labels.max(), val_labels.max())) + 1
        )
        choice = choose_and_fit(
            self._labelled(train, labels),
            self._labelled(val, val_labels),
            self._percent,
            num_classes=num_classes,
            device=self.device,
            grid=sorted(grid, reverse=True),  # of equals it takes the first
        )
        return LogisticModel(choice.fit)

    def _labelled(self, features: np.ndarray, labels: np.ndarray) -> Labelled:
        targets = labels.astype(np.int64)
        return Labelled(*(torch.from_numpy(x).to(self.device) for x in (features, targets)))

    def _percent(self, scores: Tensor, labels: Tensor) -> float:
        wanted = labels.cpu().numpy()
        wanted = wanted.astype(bool) if wanted.ndim == 2 else wanted
        return score(self.metric, wanted, scores.cpu().numpy())

"""The linear transfer protocol of Ericsson et al. 2021 ("How well do self-supervised models
transfer?", section 3.2): logistic regression whose penalty is chosen on a validation split.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pipeline.logistic.regression import SEARCH_TOLERANCE, LogisticFit, fit_logistic

GRID = tuple(float(C) for C in 1 / np.logspace(-6, 5, 45))
PROTOCOL = (
    "logistic regression to its optimum, L2, bias without penalty; representations as they are; "
    "C = 1/λ, λ of 45 in logspace(-6, 5), the best on the validation split, the largest C of "
    "equals; fitted again on train and validation"
)

Metric = Callable[[Tensor, Tensor], float]
"""Scores [M, K] and labels -> percent; higher is better."""


@dataclass(frozen=True)
class Labelled:
    """Features [N, D] float32 with labels, [N] int64 or [N, K] 0 or 1."""

    features: Tensor
    labels: Tensor

    def take(self, rows: np.ndarray) -> Labelled:
        """The rows at `rows` [M]."""
        index = torch.from_numpy(rows)
        return Labelled(self.features[index], self.labels[index])


@dataclass(frozen=True)
class Choice:
    """The chosen C, the fit with it on train and validation, and what the choice was made from."""

    C: float
    fit: LogisticFit
    grid: tuple[float, ...]
    validation: tuple[float, ...]
    """Percent on the validation split, for each C of `grid`."""
    not_converged: tuple[float, ...]
    """Those C whose fit did not reach its tolerance."""


def choose_and_fit(
    train: Labelled,
    validation: Labelled,
    metric: Metric,
    *,
    num_classes: int,
    device: torch.device,
    grid: Sequence[float] = GRID,
) -> Choice:
    """Fit every C of `grid` on `train`, keep the best of `metric` on `validation`, the first of
    equals, and fit it again on both.

    Ericsson et al. stop after 100 iterations of L-BFGS; here every fit is the optimum, those of the
    search to `SEARCH_TOLERANCE`.

    Raises:
        ValueError: as `fit_logistic`.
    """
    fits = fit_logistic(
        train.features,
        train.labels,
        grid,
        num_classes=num_classes,
        device=device,
        tolerance=SEARCH_TOLERANCE,
    )
    percents = [metric(fit.scores(validation.features), validation.labels) for fit in fits]
    best = int(np.argmax(percents))
    (fit,) = fit_logistic(
        torch.cat([train.features, validation.features]),
        torch.cat([train.labels, validation.labels]),
        [grid[best]],
        num_classes=num_classes,
        device=device,
        start=fits[best],
    )
    stopped = [fit.C for fit in (*fits, fit) if not fit.is_converged]
    return Choice(grid[best], fit, tuple(grid), tuple(percents), tuple(stopped))

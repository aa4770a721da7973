"""Representations of a data set -> one number of the transfer table, by logistic regression.

Neighbours: `features.py` makes the representations; a solver fits the regression, that of
`solver.py` or another one with the same `fit`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np

from pipeline.eval.transfer.features import PREPROCESSING, TransferFeatures
from pipeline.eval.transfer.result import TransferResult
from pipeline.eval.transfer.scores import score
from pipeline.eval.transfer.sets import Metric, transfer_set

INVERSE_PENALTIES = tuple(float(1 / penalty) for penalty in np.logspace(5, -6, 45))
"""C = 1 / lambda for lambda over logspace(-6, 5, 45), rising: 1e-5 to 1e6."""
PROTOCOL = (
    f"{PREPROCESSING}; multinomial logistic regression (one-vs-rest for VOC2007), L2, C = 1/lambda "
    "for 45 lambda from 1e-6 to 1e5 by the data set's metric on validation images (official, else "
    "20 % of train), fitted again on train and validation; Ericsson et al. 2021"
)


class LinearModel(Protocol):
    """A fitted logistic regression."""

    @property
    def inverse_penalty(self) -> float:
        """The C that it was fitted with."""

    def scores(self, representations: np.ndarray) -> np.ndarray:
        """Logits [N, K] of `representations` [N, D], column k for label k."""


class Solver(Protocol):
    """Logistic regressions of one data set."""

    def fit(
        self,
        train: np.ndarray,
        labels: np.ndarray,
        val: np.ndarray,
        val_labels: np.ndarray,
        grid: tuple[float, ...],
    ) -> LinearModel:
        """The regression with the C of `grid` that is best on `val`, fitted on `train` and `val`.

        Minimises C times the sum of the images' losses plus half the squared norm of the weights,
        the bias left out. `train` [N, D] and `val` [M, D] float32; labels int64 [N], or bool
        [N, K] for K one-vs-rest regressions with one C. Of equally good ones the largest C.
        """


MakeSolver = Callable[[Metric], Solver]
"""A solver that takes `metric` for the best C."""


def evaluate_transfer(
    features: TransferFeatures,
    make_solver: MakeSolver,
    grid: tuple[float, ...] = INVERSE_PENALTIES,
) -> TransferResult:
    """Fit a probe to `features` and score it on the test images."""
    listed = transfer_set(features.name)
    train, val, test = features.train, features.val, features.test
    solver = make_solver(listed.metric)
    model = solver.fit(train.representations, train.labels, val.representations, val.labels, grid)
    num_train, num_val, num_test = (len(part.labels) for part in (train, val, test))
    return TransferResult(
        listed.name,
        listed.metric,
        score(listed.metric, test.labels, model.scores(test.representations)),
        model.inverse_penalty,
        num_train,
        num_val,
        num_test,
        num_train + num_val + num_test == listed.num_images,
        features.split_digest,
        PROTOCOL,
    )

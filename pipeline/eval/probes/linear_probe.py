"""Linear probe: multinomial logistic regression on frozen representations, its penalty chosen on
labels held out of the given ones.

Neighbours: `eval/logistic/` fits all penalties at once; `linear_sgd.py` is the paper's probe.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.model_selection import StratifiedKFold
from torch import Tensor

from pipeline.eval.logistic.choose_penalty import GRID, try_penalties
from pipeline.eval.logistic.regression import LogisticFit, LogisticPath, fit_logistic

NUM_FOLDS = 5
MIN_HELD_OUT = 2500
"""Labels on which a penalty is chosen at the least, where there are as many: the standard error of
an accuracy p, √(p (1 - p) / n), is a point at most.
"""
_PROTOCOL = (
    "multinomial logistic regression to its optimum, L2, bias without penalty; representations "
    "centred and divided by one scale; C = 1/λ, λ of 45 in logspace(-6, 5), by accuracy "
    "{held_out}, the middle of equals; fitted again on all given labels [{remark}]"
)
_ONE_FIFTH = _PROTOCOL.format(
    held_out="on a fifth of the given labels", remark=f"a fifth is at least {MIN_HELD_OUT:,} labels"
)
_ALL_FIFTHS = _PROTOCOL.format(
    held_out=f"in {NUM_FOLDS}-fold cross-validation",
    remark=f"a fifth is less than {MIN_HELD_OUT:,} labels",
)
_CPU = torch.device("cpu")


@dataclass(frozen=True)
class FittedProbe:
    """A linear layer on centred and scaled representations."""

    fit: LogisticFit
    classes: np.ndarray
    """[K] int64, rising: the labels that it was fitted on."""
    mean: np.ndarray
    scale: float
    protocol: str
    """How it was fitted and its penalty chosen, all that is needed to do it again."""

    def predict(self, representations: np.ndarray) -> np.ndarray:
        """Labels [M] of `representations` [M, D]."""
        predicted: np.ndarray = self.classes[self.predict_probabilities(representations).argmax(1)]
        return predicted

    def predict_probabilities(self, representations: np.ndarray) -> np.ndarray:
        """Probabilities [M, K] float64 of `classes`."""
        scaled = torch.from_numpy((representations - self.mean) / self.scale)
        scores = self.fit.scores(scaled.to(self.fit.weight.device))
        probabilities: np.ndarray = scores.softmax(1).cpu().numpy()
        return probabilities


def fit_linear_probe(
    train: np.ndarray,
    labels: np.ndarray,
    *,
    seed: int,
    device: torch.device = _CPU,
) -> FittedProbe:
    """The probe of `train` [N, D] float32 with `labels` [N] of at least two classes.

    The scale is a single number, so that C means the same for every representation and no dimension
    is blown up. Without any label to spare C is 1.

    The penalty is chosen on labels held out: on one stratified fifth, drawn with `seed`, if that is
    at least `MIN_HELD_OUT` labels, else on each of the fifths in turn. From 12,500 labels on there
    is one fit for every penalty; below there are five, of 50,000 rows together at most.

    With 100 labels of the digits (sixteen draws; a narrow student, an untrained one, raw pixels) a
    fifth loses 0.4, 1.9 and 1.3 points to the best penalty on average and the unluckiest 5.1, 15.9
    and 8.4; cross-validation 0.4, 0.9 and 1.3, and 1.6, 2.2 and 5.7.
    """
    num_folds = 1 if len(labels) >= NUM_FOLDS * MIN_HELD_OUT else NUM_FOLDS
    mean = train.mean(0)
    scale = float(np.sqrt(np.square(train - mean).mean()) + 1e-12)
    classes, targets = np.unique(labels, return_inverse=True)
    features = torch.from_numpy((train - mean) / scale).to(device)
    rows = torch.from_numpy(targets).to(device)

    tried = [
        _try(features, rows, kept, held, len(classes))
        for kept, held in _splits(targets, num_folds, seed)
    ]
    C = _middle_of_best(np.mean(tried, 0)) if tried else 1.0
    (final,) = fit_logistic(features, rows, [C], num_classes=len(classes), device=device)
    protocol = _ONE_FIFTH if num_folds == 1 else _ALL_FIFTHS
    return FittedProbe(final, classes, mean, scale, protocol)


def _try(
    features: Tensor, labels: Tensor, kept: np.ndarray, held: np.ndarray, num_classes: int
) -> list[float]:
    """Accuracy on the rows `held` for every C, fitted to the rows `kept`; percent."""
    path = LogisticPath(
        features[kept], labels[kept], num_classes=num_classes, device=features.device
    )
    x, y = features[held], labels[held]

    def measure(fit: LogisticFit) -> float:
        return 100 * float((fit.predict(x) == y).double().mean())

    found = try_penalties(path, measure, len(held))
    return [found[C][1] for C in GRID]


def _splits(targets: np.ndarray, limit: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows to fit and rows to validate on, `limit` times at most."""
    num_folds = min(NUM_FOLDS, int(np.bincount(targets).max()))
    if num_folds < 2:
        return
    folds = StratifiedKFold(num_folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of classes with fewer samples than folds
        splits = list(folds.split(targets, targets))
    usable = [(kept, held) for kept, held in splits if len(np.unique(targets[kept])) > 1]
    yield from usable[:limit]


def _middle_of_best(percents: np.ndarray) -> float:
    """Where classes are far apart, every C may be as good: the middle is no extreme."""
    best = np.flatnonzero(percents == percents.max())
    middle: float = GRID[best[len(best) // 2]]
    return middle

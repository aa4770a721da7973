"""Linear probe: multinomial logistic regression on frozen representations, its penalty chosen on
labels held out of the given ones.

Neighbours: `eval/logistic/` fits all penalties at once; `streamed_probe.py` is for more rows than
memory should hold; `linear_sgd.py` is the paper's probe.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.model_selection import StratifiedKFold
from torch import Tensor

from pipeline.eval.logistic.choose_penalty import GRID, middle_of_best, try_penalties
from pipeline.eval.logistic.regression import LogisticFit, LogisticPath, fit_logistic
from pipeline.eval.probes import streamed_probe
from pipeline.student.vectors import PART_NUMBERS, Vectors

EXACT_NUMBERS = 2**28
"""Numbers, rows times dimensions, up to which all are in memory and fitted to the optimum; of 2048
dimensions 131,072 rows.
"""
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
_NO_PLACE = np.empty(0, np.int64)


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

    def predict(self, representations: Vectors) -> np.ndarray:
        """Labels [M] of `representations` [M, D], which are read a part at a time."""
        parts = (found.argmax(1) for found in self._probabilities(representations))
        predicted: np.ndarray = self.classes[np.concatenate([*parts, _NO_PLACE])]
        return predicted

    def predict_probabilities(self, representations: Vectors) -> np.ndarray:
        """Probabilities [M, K] float64 of `classes`: for where there are few."""
        return np.concatenate(
            [np.empty((0, len(self.classes))), *self._probabilities(representations)]
        )

    def _probabilities(self, representations: Vectors) -> Iterator[np.ndarray]:
        width = max(representations.num_dims, 2 * len(self.classes))  # in float64
        for part in representations.parts(max(1, PART_NUMBERS // width)):
            scaled = torch.from_numpy((part - self.mean) / self.scale)
            scores = self.fit.scores(scaled.to(self.fit.weight.device))
            yield scores.softmax(1).cpu().numpy()


def fit_linear_probe(
    train: Vectors,
    labels: np.ndarray,
    *,
    seed: int,
    device: torch.device = _CPU,
    report: streamed_probe.RowReport | None = None,
) -> FittedProbe:
    """The probe of `train` [N, D] with `labels` [N] of at least two classes.

    The scale is a single number, so that C means the same for every representation and no dimension
    is blown up.

    Up to `EXACT_NUMBERS` in `train` it is fitted to the optimum, in twice their memory as float32,
    2 GiB at most. Above, `streamed_probe.py` reads them in mini-batches; `report` is told how far
    it is.
    """
    num_rows, num_dims = train.shape
    if num_rows * num_dims <= EXACT_NUMBERS:
        return _fit_to_the_optimum(train, labels, seed, device)
    found = streamed_probe.fit_streamed(train, labels, seed=seed, device=device, report=report)
    return FittedProbe(found.fit, found.classes, found.mean, found.scale, streamed_probe.PROTOCOL)


def _fit_to_the_optimum(
    train: Vectors, labels: np.ndarray, seed: int, device: torch.device
) -> FittedProbe:
    """Without any label to spare C is 1.

    The penalty is chosen on labels held out: on one stratified fifth, drawn with `seed`, if that is
    at least `MIN_HELD_OUT` labels, else on each of the fifths in turn. From 12,500 labels on there
    is one fit for every penalty; below there are five, of 50,000 rows together at most.

    With 100 labels of the digits (sixteen draws; a narrow student, an untrained one, raw pixels) a
    fifth loses 0.4, 1.9 and 1.3 points to the best penalty on average and the unluckiest 5.1, 15.9
    and 8.4; cross-validation 0.4, 0.9 and 1.3, and 1.6, 2.2 and 5.7.

    Features are read again for every fit, so that those of one alone are in memory, and once more
    rotated.
    """
    num_folds = 1 if len(labels) >= NUM_FOLDS * MIN_HELD_OUT else NUM_FOLDS
    mean, scale = _mean_and_scale(train)
    classes, targets = np.unique(labels, return_inverse=True)

    def read(rows: np.ndarray) -> tuple[Tensor, Tensor]:
        features = train.gather(rows)
        features -= mean
        features /= scale
        return torch.from_numpy(features).to(device), torch.from_numpy(targets[rows]).to(device)

    tried = [
        _try(read, kept, held, len(classes), device)
        for kept, held in _splits(targets, num_folds, seed)
    ]
    C = middle_of_best(np.mean(tried, 0)) if tried else 1.0
    (final,) = fit_logistic(
        *read(np.arange(len(train))), [C], num_classes=len(classes), device=device
    )
    protocol = _ONE_FIFTH if num_folds == 1 else _ALL_FIFTHS
    return FittedProbe(final, classes, mean, scale, protocol)


def _mean_and_scale(train: Vectors) -> tuple[np.ndarray, float]:
    features = train.array()
    mean = features.mean(0)
    features -= mean
    return mean, float(np.sqrt(np.square(features).mean()) + 1e-12)


def _try(
    read: Callable[[np.ndarray], tuple[Tensor, Tensor]],
    kept: np.ndarray,
    held: np.ndarray,
    num_classes: int,
    device: torch.device,
) -> list[float]:
    """Accuracy on the rows `held` for every C, fitted to the rows `kept`; percent."""
    path = LogisticPath(*read(kept), num_classes=num_classes, device=device)
    x, y = read(held)

    def measure(fit: LogisticFit) -> float:
        return 100 * float((fit.predict(x) == y).double().mean())

    percents = try_penalties(path, measure, len(held)).percents
    return [percents[C] for C in GRID]


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

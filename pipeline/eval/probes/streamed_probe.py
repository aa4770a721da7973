"""The linear probe of more rows than memory should hold: the objective of `linear_probe.py`, its
sums taken over mini-batches that are read from disk, its penalty chosen on draws of rising size.

Neighbours: `logistic/streamed.py` has the objective, `logistic/penalty_search.py` the choice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from pipeline.eval.logistic.penalty_search import FINAL, ROUNDS, PenaltySearch
from pipeline.eval.logistic.principal_axes import PrincipalAxes
from pipeline.eval.logistic.regression import LogisticFit
from pipeline.eval.logistic.streamed import Draw, LabelledRows, batch_rows
from pipeline.samples.seeding import numpy_generator
from pipeline.student.vectors import Vectors

FIRST_NUMBERS = 2**26
"""Numbers in the first draw at most, on which every decade of penalties is tried."""
MAX_HELD_OUT = 20_000
_GROWTH = 4
_FIRST, _MIDDLE, _LAST, _ENDS = 130, 60, 25, 9  # passes expected of a draw
_SCANNED = 2**20  # labels at a time
_NONE = np.empty(0, np.int64)
RowReport = Callable[[int, int], None]
"""Called with the rows read so far and those to be read in all, which is an estimate."""
PROTOCOL = (
    "multinomial logistic regression, L2, bias without penalty, by L-BFGS, loss and gradient "
    f"summed over mini-batches of rows, to within {FINAL:g} of the loss of the classes' shares or "
    f"{ROUNDS.count * ROUNDS.iterations} iterations; "
    "representations centred and divided by one scale; C = 1/λ, λ of 45 in logspace(-6, 5), by "
    f"accuracy on a fifth of the given labels, {MAX_HELD_OUT:,} at most: the best decade on a draw "
    f"of at most 2^{FIRST_NUMBERS.bit_length() - 1} numbers, half a decade on draws of {_GROWTH} "
    "times as many, neighbours on all other labels; fitted again on all given labels"
)


@dataclass(frozen=True)
class StreamedFit:
    """A fit of rows less `mean` [D] float32, divided by `scale`."""

    fit: LogisticFit
    classes: np.ndarray
    """[K], rising."""
    mean: np.ndarray
    scale: float


def fit_streamed(
    train: Vectors,
    labels: np.ndarray,
    *,
    seed: int,
    device: torch.device,
    report: RowReport | None = None,
) -> StreamedFit:
    """Fit `train` [N, D] with `labels` [N] of at least two classes.

    Memory: four mini-batches, four [D, D] and some forty [D, K], float64; nothing that grows with
    N. Of 2048 dimensions and 1,000 classes less than 2 GB.

    Raises:
        ValueError: if a feature is not finite, or fewer than two classes have samples.
    """
    num_rows, num_dims = train.shape
    known = _Classes.of(labels)
    strides = _strides(num_rows, num_dims)
    progress = _Progress(num_rows, strides, report)
    axes = PrincipalAxes.of_parts(progress.passing(train, device))
    mean = axes.mean.cpu().numpy().astype(np.float32)
    scale = float(axes.variances.sum() / num_dims) ** 0.5 + 1e-12
    axes = axes.standardised(scale)
    held = _hold_out(num_rows, known.firsts, seed)
    everything = LabelledRows(
        train,
        labels,
        Draw(num_rows, 1, seed, known.firsts, _NONE),
        known.classes,
        mean,
        scale,
        device,
        progress.add,
    )

    def draw(every: int) -> LabelledRows:
        return replace(everything, draw=replace(everything.draw, every=every, never=held))

    to_measure = LabelledRows(
        train.take(held),
        labels[held],
        Draw(len(held), 1, seed, _NONE, _NONE),
        known.classes,
        mean,
        scale,
        device,
    )
    search = PenaltySearch(axes, to_measure, torch.from_numpy(known.shares).to(device))
    found = search.look_everywhere(draw(strides[0]))
    for every in strides[1:-1]:
        found = search.look_around(draw(every), found)
    fit = search.finish(everything, search.climb(draw(1), found))
    progress.end()
    return StreamedFit(fit, known.classes, mean, scale)


@dataclass(frozen=True)
class _Classes:
    classes: np.ndarray
    """[K], rising."""
    shares: np.ndarray
    """[K] float64, of the rows."""
    firsts: np.ndarray
    """[K] int64, rising: a row of each class."""

    @classmethod
    def of(cls, labels: np.ndarray) -> _Classes:
        firsts: dict[int, int] = {}
        counts: dict[int, int] = {}
        for start in range(0, len(labels), _SCANNED):
            found = np.unique(
                labels[start : start + _SCANNED], return_index=True, return_counts=True
            )
            for label, row, count in zip(*(part.tolist() for part in found), strict=True):
                firsts.setdefault(label, start + row)
                counts[label] = counts.get(label, 0) + count
        if len(counts) < 2:
            raise ValueError("labels: fewer than two classes have samples")
        classes = sorted(counts)
        shares = np.array([counts[label] for label in classes]) / len(labels)
        return cls(np.array(classes), shares, np.sort(np.array(list(firsts.values()), np.int64)))


def _strides(num_rows: int, num_dims: int) -> list[int]:
    """Of the draws, falling to 1; at least two."""
    strides = [1, _GROWTH]
    while num_rows * num_dims > FIRST_NUMBERS * strides[-1]:
        strides.append(_GROWTH * strides[-1])
    return strides[::-1]


def _hold_out(num_rows: int, firsts: np.ndarray, seed: int) -> np.ndarray:
    """Rows on which C is chosen, rising: one of each of as many equal stretches, so that they have
    all classes even where rows are sorted by them; but a row of each class is left to fit.
    """
    num_held = min(num_rows // 5, MAX_HELD_OUT)
    ends = np.linspace(0, num_rows, num_held + 1).astype(np.int64)
    drawn = numpy_generator(seed, "probe/held out").integers(ends[:-1], ends[1:])
    return np.setdiff1d(drawn, firsts)


class _Progress:
    """Counts rows for a bar, if there is one."""

    def __init__(self, num_rows: int, strides: list[int], report: RowReport | None) -> None:
        first, *middle, last = (num_rows // every for every in strides)
        self._done = 0
        self._expected = _FIRST * first + _MIDDLE * sum(middle) + (_LAST + _ENDS) * last
        self._report = report

    def passing(self, vectors: Vectors, device: torch.device) -> Iterator[Tensor]:
        """All of `vectors`, which are counted."""
        for part in vectors.parts(batch_rows(vectors.num_dims)):
            yield torch.from_numpy(part).to(device)
            self.add(len(part))

    def add(self, num_rows: int) -> None:
        """So many more have been read."""
        self._done += num_rows
        self._expected = max(self._expected, self._done)
        if self._report is not None:
            self._report(self._done, self._expected)

    def end(self) -> None:
        """That was all."""
        if self._report is not None:
            self._report(self._done, self._done)

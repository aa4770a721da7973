"""The objective of a multinomial linear classifier on rows that stay on disk: every evaluation
reads them once, in mini-batches, and sums loss and gradient over these.

The weights are those of principal axes, as elsewhere (`regression.py` says why), but the rows are
not rotated: the weights are, there and back, which costs a product of the size of the axes instead
of one for every row. Neighbours: `lbfgs.py` minimises; `probes/streamed_probe.py` has the probe.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pipeline.eval.logistic.linear_loss import LossSums, ObjectiveAt, softmax_loss
from pipeline.eval.logistic.principal_axes import PrincipalAxes
from pipeline.samples.seeding import numpy_generator
from pipeline.student.vectors import Vectors

BATCH_NUMBERS = 2**22
"""Numbers in a mini-batch, 16 MiB in float32; two are in memory, each twice."""


def _ignore(num_rows: int) -> None:
    """Nobody counts."""


def batch_rows(width: int) -> int:
    """Rows of a mini-batch whose rows, or what is made of one, are so many numbers wide."""
    return max(1, BATCH_NUMBERS // width)


@dataclass(frozen=True)
class Draw:
    """One row of every `every`, drawn, in rising order; nothing is kept of them but how."""

    num_rows: int
    """To draw from."""
    every: int
    seed: int
    always: np.ndarray
    """Rows that are drawn at any rate; [n] int64, rising."""
    never: np.ndarray
    """Rows that are not, none of them of `always`; [n] int64, rising."""

    def parts(self, num_drawn: int) -> Iterator[np.ndarray]:
        """Rows, about `num_drawn` at a time."""
        step = num_drawn * self.every
        for index, start in enumerate(range(0, self.num_rows, step)):
            stop = min(start + step, self.num_rows)
            rows = np.arange(start, stop, self.every)
            if self.every > 1:
                generator = numpy_generator(self.seed, f"probe/every {self.every}", index)
                rows += generator.integers(0, self.every, len(rows))
                rows = np.union1d(rows[rows < stop], _between(self.always, start, stop))
            never = _between(self.never, start, stop)
            yield np.setdiff1d(rows, never, assume_unique=True) if len(never) else rows

    def count(self, num_drawn: int) -> int:
        """Rows of all parts of so many."""
        return sum(map(len, self.parts(num_drawn)), 0)


def _between(rows: np.ndarray, start: int, stop: int) -> np.ndarray:
    first, last = np.searchsorted(rows, (start, stop))
    return rows[first:last]


@dataclass(frozen=True)
class LabelledRows:
    """Rows centred and divided by one scale, with their classes, a mini-batch at a time."""

    vectors: Vectors
    labels: np.ndarray
    """[N], each of `classes`."""
    draw: Draw
    """Which rows are meant."""
    classes: np.ndarray
    """[K], rising."""
    mean: np.ndarray
    """[D] float32."""
    scale: float
    device: torch.device
    count: Callable[[int], None] = _ignore
    """Told of every mini-batch's rows when it has been used."""

    def __len__(self) -> int:
        return self.draw.count(self._batch)

    @property
    def _batch(self) -> int:
        return batch_rows(max(self.vectors.num_dims, len(self.classes)))

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Features [n, D + 1] float32, ones last, and classes [n] int64, on the device. The next
        are read meanwhile.
        """
        parts = self._read()
        with ThreadPoolExecutor(1, "rows") as thread:
            following = thread.submit(next, parts, None)
            while (part := following.result()) is not None:
                following = thread.submit(next, parts, None)
                features, targets = (array.to(self.device) for array in part)
                yield features, targets
                self.count(len(targets))

    def _read(self) -> Iterator[tuple[Tensor, Tensor]]:
        for rows in self.draw.parts(self._batch):
            features = np.ones((len(rows), self.vectors.num_dims + 1), np.float32)
            np.subtract(self.vectors.gather(rows), self.mean, out=features[:, :-1])
            features[:, :-1] /= self.scale
            targets = np.searchsorted(self.classes, self.labels[rows]).astype(np.int64)
            yield torch.from_numpy(features), torch.from_numpy(targets)


@dataclass(frozen=True)
class StreamedObjective:
    """Mean loss of `rows` plus penalty/2 |W|², over W [R + 1, K] of the rows' principal axes."""

    rows: LabelledRows
    axes: PrincipalAxes
    """Of the rows as they are read, about 0."""

    def at(self, weights: Tensor, penalty: float) -> ObjectiveAt:
        """Everything at `weights` [R + 1, K] float64. Products of matrices are float32, sums of
        mini-batches float64.
        """
        flat = self.as_read(weights)
        whole = LossSums.zeros(weights)
        gradient = torch.zeros_like(flat, dtype=torch.float64)
        for features, targets in self.rows.batches():
            sums = LossSums.zeros(flat)
            sums.add(features, targets, flat, softmax_loss)
            gradient += sums.gradient
            whole.loss += sums.loss
            whole.curvature += sums.curvature
        turned = torch.cat([self.axes.axes.T @ gradient[:-1], gradient[-1:]])
        whole.gradient = turned.float()
        ones = self.axes.variances.new_ones(1)
        variances = torch.cat([self.axes.variances, ones]).float()
        return whole.objective(weights.float(), penalty, variances, len(self.rows))

    def as_read(self, weights: Tensor) -> Tensor:
        """`weights` [R + 1, K] as those of the rows themselves, [D + 1, K] float32."""
        return torch.cat([self.axes.axes @ weights[:-1], weights[-1:]]).float()


def percent_right(rows: LabelledRows, weights: Tensor) -> float:
    """Top-1 of `rows` by `weights` [D + 1, K] float32."""
    right = 0
    for features, targets in rows.batches():
        right += int(((features @ weights).argmax(1) == targets).sum())
    return 100 * right / len(rows)

"""The images that a training is looked at by: drawn once, read once, the same at every look and in
every run on them, whatever its seed.

Rows are shared among the workers, each of which keeps its part in memory: shards may be far away.
Neighbours: `shards.py` names what is read, `measure.py` embeds it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pipeline.engine.collectives import gather_batch, num_workers, worker_part
from pipeline.samples.seeding import numpy_generator
from pipeline.student.view_size import SizedImages
from pipeline.train.monitor.shards import MonitoredReaders
from shards.reader import ShardReader

_SEED = 0
_CANDIDATES = 16  # of which labelled images are sought, for each that is wanted


@dataclass(frozen=True)
class Shared:
    """Rows of something, of which each worker has a part; what the last ones lack is filled with
    the first rows again.
    """

    num_rows: int

    @property
    def filled(self) -> int:
        """Rows of all workers."""
        return -(-self.num_rows // num_workers()) * num_workers()

    @property
    def part(self) -> slice:
        """This worker's."""
        return worker_part(self.filled)

    def of(self, rows: np.ndarray) -> np.ndarray:
        """This worker's of `rows` [N]."""
        return np.resize(rows, self.filled)[self.part]

    def joined(self, own: Tensor) -> Tensor:
        """All workers' parts `own` [n, …] as [N, …], on every worker."""
        return gather_batch(own)[: self.num_rows]


@dataclass(frozen=True)
class AnyImages:
    """This worker's part of some images, uint8 [n, 3, S, S], on the CPU."""

    pixels: Tensor
    shared: Shared


@dataclass(frozen=True)
class LabelledImages(AnyImages):
    """The same, and the labels of all, int64 [N]."""

    labels: np.ndarray


@dataclass(frozen=True)
class LabelledPair:
    """Neighbours, and images that they classify."""

    keys: LabelledImages
    queries: LabelledImages


def read_labelled(readers: MonitoredReaders, samples: int, side: int) -> LabelledPair | None:
    """At most `samples` keys, of the train images, and as many queries, of the test images; where
    none of those has a label, both are of the train images. None where labels do not suffice: where
    keys are of one class or no query is of a key's class.

    Args:
        readers: of the shards.
        samples: most of each.
        side: of the images, in pixels.
    """
    if not readers.has_labels:
        return None
    source, queries = readers.train, None
    if readers.test is not None:
        source, queries = readers.test, draw_labelled(readers.test, samples, "test")
    if queries is not None and len(queries.rows):
        keys = draw_labelled(readers.train, samples, "train")
    else:
        both = draw_labelled(readers.train, 2 * samples, "train")
        source, keys, queries = readers.train, both.every_other(0), both.every_other(1)
    if len(np.unique(keys.labels)) < 2 or not np.isin(queries.labels, keys.labels).any():
        return None
    return LabelledPair(_read(readers.train, keys, side), _read(source, queries, side))


def _read(reader: ShardReader, chosen: LabelledRows, side: int) -> LabelledImages:
    shared = Shared(len(chosen.rows))
    pixels = SizedImages(reader, side).gather(shared.of(chosen.rows))
    return LabelledImages(pixels, shared, chosen.labels)


def read_any(reader: ShardReader, samples: int) -> AnyImages:
    """This worker's part of at most `samples` images, of the size in which they are stored."""
    rows = _draw(len(reader), samples, "train")
    shared = Shared(len(rows))
    return AnyImages(torch.from_numpy(reader.gather("image", shared.of(rows))), shared)


@dataclass(frozen=True)
class LabelledRows:
    """Rows that have labels [N], int64 both, in random order."""

    rows: np.ndarray
    labels: np.ndarray

    def every_other(self, first: int) -> LabelledRows:
        """The even ones, or from `first` = 1 the odd ones."""
        return LabelledRows(self.rows[first::2], self.labels[first::2])


def draw_labelled(reader: ShardReader, count: int, split: str) -> LabelledRows:
    """At most `count` labelled rows. No more than 16 times as many are asked for their labels, so
    that of a large set few of whose images have one there may be fewer than there could be.
    """
    candidates = _draw(len(reader), _CANDIDATES * count, split)
    rows, labels = candidates[:0], candidates[:0]
    for start in range(0, len(candidates), count):
        asked = candidates[start : start + count]
        answers = reader.gather("label", asked)
        rows = np.concatenate([rows, asked[answers >= 0]])
        labels = np.concatenate([labels, answers[answers >= 0]])
        if len(rows) >= count:
            break
    return LabelledRows(rows[:count], labels[:count])


def _draw(num_rows: int, count: int, split: str) -> np.ndarray:
    """Different ones of `num_rows` rows, at most `count`, in random order."""
    generator = numpy_generator(_SEED, f"train/monitor/{split}")
    return generator.choice(num_rows, min(num_rows, count), replace=False)

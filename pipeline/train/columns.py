"""What a training reads of one domain, by step: rows of its columns, from the shards to the device.

Columns either stay in their shards and a step's rows are gathered and uploaded (here), or lie on
the device and a step uploads which rows it takes (`resident.py`). Neighbour: `data.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from pipeline.samples.stream import StepRows
from shards.pool import PoolReader
from shards.reader import ShardReader

Gather = Callable[[np.ndarray], np.ndarray]
"""Sample indices [n] int64 -> a column of these samples, [n, …]."""


@dataclass(frozen=True)
class Domain:
    """Columns of one domain, row by row the same samples: images uint8 [n, 3, R, R], and pooled
    features [n, Σ C_l] of their stored type where there are any.
    """

    readers: tuple[ShardReader, ...]
    """Of all columns; the first one's shards are those of the order."""
    columns: tuple[Gather, ...]

    @property
    def num_samples(self) -> int:
        """Rows of every column."""
        return len(self.readers[0])


def real_domain(reader: ShardReader) -> Domain:
    """Real images."""
    return Domain((reader,), (lambda rows: reader.gather("image", rows),))


def pool_domain(pool: PoolReader, features: tuple[str, ...]) -> Domain:
    """Images of a pool, with the features of these names end to end."""

    def images(rows: np.ndarray) -> np.ndarray:
        return pool.images.gather("image", rows)

    def pooled(rows: np.ndarray) -> np.ndarray:
        return pool.gather_features(features, rows)

    return Domain(tuple(pool.readers), (images, pooled) if features else (images,))


class Columns(Protocol):
    """A step's rows of one domain. The upload between the two calls is the caller's affair."""

    def load(self, step: int) -> list[Tensor]:
        """What the device needs for `step`, on the CPU; called in a thread."""
        ...

    def take(self, uploaded: Sequence[Tensor]) -> Sequence[Tensor]:
        """The rows of every column on the device, of what `load` returned, uploaded."""
        ...


class StreamedColumns:
    """Columns that stay in their shards."""

    def __init__(self, domain: Domain, rows: StepRows) -> None:
        self._domain = domain
        self._rows = rows

    def load(self, step: int) -> list[Tensor]:
        """The rows themselves."""
        for reader in self._domain.readers:
            reader.prefetch(self._rows.shards_ahead(step))
        rows = self._rows.rows(step)
        return [torch.from_numpy(gather(rows)) for gather in self._domain.columns]

    def take(self, uploaded: Sequence[Tensor]) -> Sequence[Tensor]:
        """As they are."""
        return uploaded

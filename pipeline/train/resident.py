"""Columns that lie on the device: all that a training reads, loaded once, so that a step uploads
nothing but the indices of its rows.

Batches are those that streaming makes, bit for bit. Neighbours: `columns.py` streams; `data.py`
chooses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import numpy as np
import torch
from torch import Tensor

from pipeline.samples.stream import StepRows
from pipeline.terminal.progress import progress_bar
from pipeline.train.columns import Domain, Gather
from shards.reader import ShardReader

Advance = Callable[[int], object]
"""Called with the number of samples that have been loaded since the last call."""
_SHARE = 2  # one half of what is free; networks, gradients and activations have the other
LOADED_BYTES = 64 << 20
"""Of the widest column, at most so much is read at once."""


def free_memory(device: torch.device) -> int:
    """Bytes that a GPU's memory has left; 0 for a CPU, whose mapped shards are memory already."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 0


def fits(domains: Iterable[Domain], device: torch.device) -> bool:
    """Whether there are columns, and all take no more than half of the device's free memory."""
    return 0 < sum(map(num_bytes, domains)) * _SHARE <= free_memory(device)


def num_bytes(domain: Domain) -> int:
    """Size of all columns, decoded."""
    return domain.num_samples * sum(gather(np.arange(1)).nbytes for gather in domain.columns)


@contextmanager
def load_progress(domains: Iterable[Domain], *, is_shown: bool) -> Iterator[Advance]:
    """A progress bar of loading these domains, or none; yields what to call as samples come."""
    if not is_shown:
        yield lambda _: None
        return
    with progress_bar("samples") as bar:
        total = sum(domain.num_samples for domain in domains)
        yield partial(bar.advance, bar.add_task("load", total=total, note=""))


class ResidentColumns:
    """Columns in the memory of `device`, loaded slice by slice; `advance` hears of each."""

    def __init__(
        self, domain: Domain, rows: StepRows, device: torch.device, advance: Advance
    ) -> None:
        self._rows = rows
        self._tables = [_Table(gather, domain.num_samples, device) for gather in domain.columns]
        size = max(1, LOADED_BYTES // max(table.row_bytes for table in self._tables))
        for loaded in _slices(domain.readers, size):
            for table in self._tables:
                table.load(loaded)
            advance(len(loaded))

    def load(self, step: int) -> list[Tensor]:
        """Indices of the rows, [n] int64."""
        return [torch.from_numpy(self._rows.rows(step))]

    def take(self, uploaded: Sequence[Tensor]) -> Sequence[Tensor]:
        """These rows of every column."""
        (rows,) = uploaded
        return [table.take(rows) for table in self._tables]


class _Table:
    """All rows of a column, each [shape] in the memory format in which it is gathered."""

    def __init__(self, gather: Gather, num_rows: int, device: torch.device) -> None:
        self._gather = gather
        first = torch.from_numpy(gather(np.arange(1)))
        self.row_bytes = first.nbytes
        self._shape, self._strides = first.shape[1:], first.stride()[1:]
        self._flat = torch.empty((num_rows, first.numel()), dtype=first.dtype, device=device)

    def load(self, rows: np.ndarray) -> None:
        """Fill `rows`, which follow one another."""
        part = self._shaped(self._flat[int(rows[0]) : int(rows[-1]) + 1])
        part.copy_(torch.from_numpy(self._gather(rows)))

    def take(self, rows: Tensor) -> Tensor:
        return self._shaped(self._flat.index_select(0, rows))

    def _shaped(self, flat: Tensor) -> Tensor:
        return flat.as_strided((len(flat), *self._shape), (flat.shape[1], *self._strides))


def _slices(readers: tuple[ShardReader, ...], size: int) -> Iterator[np.ndarray]:
    """All rows in their order, at most `size` at once and of one shard of the first reader; shards
    that come next are fetched meanwhile.
    """
    start = 0
    for index, num_samples in enumerate(readers[0].shard_sizes):
        for reader in readers:
            reader.prefetch(range(index, min(index + 2, len(reader.shards))))
        stop = start + num_samples
        for first in range(start, stop, size):
            yield np.arange(first, min(first + size, stop))
        start = stop

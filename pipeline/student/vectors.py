"""Many vectors, one a row, that need not fit into memory: blocks on disk, read a part at a time.

Neighbours: `representations.py` keeps the blocks; probes, neighbours and measures read them here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from shards.open_files import allow_open_files

PART_NUMBERS = 2**24
"""Numbers in a part, 64 MiB in float32."""


class Vectors:
    """Rows of `blocks`, arrays [n, D] end to end that may be memory-mapped; of `rows` [N] int64,
    where they are given, in that order.

    What is read is float32: float16 and float32 as they are, uint8 divided by 255.

    Raises:
        ValueError: if there is no block, or one has another width or type.
    """

    def __init__(self, blocks: Sequence[np.ndarray], rows: np.ndarray | None = None) -> None:
        if not blocks or len({(block.shape[1:], block.dtype) for block in blocks}) > 1:
            raise ValueError("blocks must be of one width and type, and there must be one")
        self._blocks = blocks
        self._ends = np.cumsum([len(block) for block in blocks])
        self._rows = rows
        self.num_dims: int = blocks[0].shape[1]

    def __reduce__(self) -> tuple[Any, ...]:
        """Blocks in files travel as their names."""
        blocks = [
            Path(str(block.filename)) if isinstance(block, np.memmap) else block
            for block in self._blocks
        ]
        return _reopen, (blocks, self._rows)

    def __len__(self) -> int:
        return int(self._ends[-1]) if self._rows is None else len(self._rows)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and their width."""
        return len(self), self.num_dims

    def take(self, rows: np.ndarray) -> Vectors:
        """Those at `rows` [n], of which nothing is read yet."""
        return Vectors(self._blocks, rows if self._rows is None else self._rows[rows])

    def gather(self, rows: np.ndarray, into: np.ndarray | None = None) -> np.ndarray:
        """A copy of those at `rows` [n], float32 [n, D]; in `into`, if that is given."""
        places = np.asarray(rows, np.int64)
        if len(places) and not 0 <= places.min() <= places.max() < len(self):
            raise IndexError(f"rows outside [0, {len(self)})")
        if self._rows is not None:
            places = self._rows[places]
        found = np.empty((len(places), self.num_dims), np.float32) if into is None else into
        if len(places) and (np.diff(places) == 1).all():
            self._copy_run(int(places[0]), found)
        else:
            block_of = np.searchsorted(self._ends, places, side="right")
            for index in np.unique(block_of):
                block = self._blocks[index]
                chosen = np.flatnonzero(block_of == index)
                found[chosen] = block[places[chosen] - (self._ends[index] - len(block))]
        if self._blocks[0].dtype == np.uint8:
            found /= np.float32(255)
        return found

    def _copy_run(self, start: int, found: np.ndarray) -> None:
        """Rows of the blocks from `start` on: slices, which are quicker to copy."""
        stop = start + len(found)
        for block, end in zip(self._blocks, self._ends.tolist(), strict=True):
            begin = end - len(block)
            first, last = max(start, begin), min(stop, end)
            if first < last:
                found[first - start : last - start] = block[first - begin : last - begin]

    def parts(self, num_rows: int | None = None, *, reuse: bool = False) -> Iterator[np.ndarray]:
        """All of them, `num_rows` at a time, by default about 64 MiB, each part a copy; with
        `reuse` in the memory of the one before, as fresh memory takes longer than the copying.
        """
        step = num_rows or max(1, PART_NUMBERS // self.num_dims)
        memory = np.empty((min(step, len(self)), self.num_dims), np.float32) if reuse else None
        for start in range(0, len(self), step):
            rows = np.arange(start, min(start + step, len(self)))
            yield self.gather(rows, None if memory is None else memory[: len(rows)])

    def array(self) -> np.ndarray:
        """All at once, float32 [N, D]: for where there are few."""
        return self.gather(np.arange(len(self)))


def _reopen(blocks: Sequence[np.ndarray | Path], rows: np.ndarray | None) -> Vectors:
    allow_open_files()
    opened = [np.load(one, mmap_mode="r") if isinstance(one, Path) else one for one in blocks]
    return Vectors(opened, rows)

"""Which samples come when: a pure function of (seed, purpose, position), so that a position is all
a checkpoint keeps.

Every pass is a fresh order: the shards are shuffled, cut into windows of so many samples, and the
samples of a window shuffled among themselves. That is a full shuffle of anything smaller than a
window, and keeps memory and the shards in use bounded for anything larger. Passes follow one
another without a seam, and a batch may straddle two of them. Neighbours: `seeding.py` below;
`stream.py` and the trainer of the teacher above.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock
from typing import TypeVar

import numpy as np

from pipeline.samples.seeding import numpy_generator

_KEPT = 4

K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True)
class _Pass:
    """Shards in the order of one pass, and where each of its windows starts."""

    shards: np.ndarray
    window_shards: np.ndarray
    """Position in `shards` of each window's first, and their number; [windows + 1]."""
    window_starts: np.ndarray
    """Position within the pass of each window's first sample, and the pass's length."""


class Order:
    """An endless sequence of sample indices in which every pass holds each sample exactly once.

    Args:
        shard_sizes: samples of each shard, all positive; sample indices run through them in order.
        seed: of the run.
        purpose: names the sequence.
        window: samples shuffled together, roughly: windows hold whole shards; None: all of them.
    """

    def __init__(
        self, shard_sizes: Sequence[int], seed: int, purpose: str, window: int | None = None
    ) -> None:
        sizes = np.asarray(shard_sizes, dtype=np.int64)
        if not len(sizes) or sizes.min() < 1:
            raise ValueError("there must be shards, none of them empty")
        self._sizes = sizes
        self._starts = np.cumsum(sizes) - sizes
        self.num_samples = int(sizes.sum())
        self._window = self.num_samples if window is None else window
        self._seed = seed
        self._purpose = purpose
        self._lock = Lock()
        self._passes: OrderedDict[int, _Pass] = OrderedDict()
        self._windows: OrderedDict[tuple[int, int], np.ndarray] = OrderedDict()

    def indices(self, start: int, count: int) -> np.ndarray:
        """Sample indices at positions `start` … `start + count - 1`; [count] int64."""
        parts = []
        while count > 0:
            pass_index, within = divmod(start, self.num_samples)
            layout = self._layout(pass_index)
            window = int(np.searchsorted(layout.window_starts, within, side="right")) - 1
            offset = within - int(layout.window_starts[window])
            part = self._shuffled(pass_index, window)[offset : offset + count]
            parts.append(part)
            start, count = start + len(part), count - len(part)
        return np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)

    def shards_ahead(self, position: int) -> np.ndarray:
        """Shard indices of the window at `position`, then those of the window after it."""
        pass_index, within = divmod(position, self.num_samples)
        layout = self._layout(pass_index)
        window = int(np.searchsorted(layout.window_starts, within, side="right")) - 1
        following = (pass_index, window + 1)
        if following[1] == len(layout.window_starts) - 1:
            following = (pass_index + 1, 0)
        return np.concatenate([self._shards(pass_index, window), self._shards(*following)])

    def _shards(self, pass_index: int, window: int) -> np.ndarray:
        layout = self._layout(pass_index)
        return layout.shards[layout.window_shards[window] : layout.window_shards[window + 1]]

    def _layout(self, pass_index: int) -> _Pass:
        layout = self._passes.get(pass_index)
        if layout is None:
            generator = numpy_generator(self._seed, f"order/{self._purpose}/shards", pass_index)
            shards = generator.permutation(len(self._sizes))
            ends = np.cumsum(self._sizes[shards])
            starts = ends - self._sizes[shards]
            first = np.flatnonzero(np.diff(starts // self._window, prepend=-1))
            layout = _Pass(
                shards, np.append(first, len(shards)), np.append(starts[first], self.num_samples)
            )
            self._keep(self._passes, pass_index, layout)
        return layout

    def _shuffled(self, pass_index: int, window: int) -> np.ndarray:
        key = (pass_index, window)
        samples = self._windows.get(key)
        if samples is None:
            shards = np.sort(self._shards(pass_index, window))
            samples = np.concatenate(
                [np.arange(self._sizes[shard]) + self._starts[shard] for shard in shards]
            )
            purpose = f"order/{self._purpose}/{pass_index}"
            numpy_generator(self._seed, purpose, window).shuffle(samples)
            self._keep(self._windows, key, samples)
        return samples

    def _keep(self, kept: OrderedDict[K, V], key: K, value: V) -> None:
        with self._lock:  # threads load several steps at once
            kept[key] = value
            while len(kept) > _KEPT:
                kept.popitem(last=False)

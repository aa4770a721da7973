"""Batches by step: which rows of a step belong to which worker, and loading them ahead of time.

A batch is a pure function of (seed, step, rank), so nothing here has a state to save: training goes
on at any step, on any number of workers that divides the batch.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar, cast

import numpy as np

from pipeline.samples.order import Order

LOADED_AHEAD = 3
_THREADS = 1  # steps wait for the interpreter anyway; a second only splits memory arenas

T = TypeVar("T")


class StepRows:
    """The rows of one domain that each step takes: `batch_size` positions of `order` per step, of
    which worker `rank` of `num_workers` has an equal, contiguous part.

    Raises:
        ValueError: if the workers do not divide the batch.
    """

    def __init__(self, order: Order, batch_size: int, rank: int = 0, num_workers: int = 1) -> None:
        if batch_size % num_workers:
            raise ValueError("the workers must divide the global batch")
        self.order = order
        self._batch_size = batch_size
        self._part = batch_size // num_workers
        self._offset = rank * self._part

    def rows(self, step: int) -> np.ndarray:
        """This worker's sample indices of `step` >= 0; [batch_size // num_workers] int64."""
        return self.order.indices(step * self._batch_size + self._offset, self._part)

    def shards_ahead(self, step: int) -> np.ndarray:
        """Indices of the shards that this step and those soon after it read."""
        return self.order.shards_ahead(step * self._batch_size)


class LoadedAhead(Generic[T]):
    """`load(step)` for steps in their order: while one is used, threads load the next."""

    def __init__(self, load: Callable[[int], T], num_ahead: int = LOADED_AHEAD) -> None:
        self._load = load
        self._num_ahead = num_ahead
        self._threads = ThreadPoolExecutor(_THREADS, "load")
        self._pending: dict[int, Future[T]] = {}
        self.waited_s = 0.0
        """Time that `get` has taken in all: what a training waits for its samples."""

    def get(self, step: int) -> T:
        """What `load(step)` returns or raises."""
        began_at = time.perf_counter()
        loading = self._pending.pop(step, None)
        loaded = self._load(step) if loading is None else None  # nothing beside what is waited for
        for ahead in range(step + 1, step + 1 + self._num_ahead):
            if ahead not in self._pending:
                self._pending[ahead] = self._threads.submit(self._load, ahead)
        for other in [other for other in self._pending if other < step]:
            self._pending.pop(other).cancel()
        found = cast(T, loaded) if loading is None else loading.result()
        self.waited_s += time.perf_counter() - began_at
        return found

    def close(self) -> None:
        """Load no more."""
        self._threads.shutdown(wait=False, cancel_futures=True)

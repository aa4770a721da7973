"""One shard spec -> one shard of the images, and of every set of features that lacks it.

Knows no Ray: `stage.py` renders in Ray tasks or in this process, with the same bytes as result.
While a batch is rendered, threads draw the inputs of the next (`draw_ahead.py`) and write the last,
and a GPU has its successor at hand. The generator is not compiled: torch.compile times its kernels
and takes the fastest, so that two processes on one machine may get other bytes of the same shard.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from queue import Full, Queue
from typing import Any

import numpy as np
import torch

from pipeline.generate.batch import RenderedBatch, start_batch
from pipeline.generate.draw_ahead import THREADS, InputDrawer
from pipeline.generate.plan import PoolRecipe
from pipeline.teacher.draws import InputSpec
from pipeline.teacher.interface import TeacherGenerator
from shards.manifest import ShardInfo, shard_name
from shards.schema import Schema
from shards.storage import Folder
from shards.writer import writing_shard

_MAX_PENDING = 2  # batches that wait to be written
_LOOK_S = 0.5


@dataclass(frozen=True)
class RenderedShard:
    """A shard that is complete in every set: one manifest row for each, and where the time went."""

    index: int
    shards: dict[str, ShardInfo]
    rendering_s: float
    waiting_s: float
    """Not rendering: waiting for the writer, or for the storage at the end."""


class ShardRenderer:
    """Renders shards of a pool, one after the other, by a `generator` in evaluation mode; a thread
    writes them, and publishes each while the next is rendered. A context manager.
    """

    def __init__(self, generator: TeacherGenerator, recipe: PoolRecipe, folder: Folder) -> None:
        self._generator = generator
        self._recipe = recipe
        self._folder = folder
        device = next(generator.parameters()).device
        self._drawer = InputDrawer(
            InputSpec.of(generator, recipe.sampling),
            device,
            num_threads=0 if device.type == "cpu" else THREADS,
        )
        self._writer = ThreadPoolExecutor(1, "writer")

    def __enter__(self) -> ShardRenderer:
        return self

    def __exit__(self, *_: object) -> None:
        self._drawer.close()
        self._writer.shutdown()

    def start(self, schemas: Mapping[str, Schema], shard_index: int) -> StartedShard:
        """Render samples `shard_index * n` … for the sets `schemas` (name -> columns); when this
        returns, the last of them are still being written.

        Raises:
            UserError: if an image is not finite, or a feature in its type, unless
                `StartedShard.result` does.
            OSError: if something cannot be written; likewise.
        """
        recipe = self._recipe
        start = shard_index * recipe.samples_per_shard
        began_at = time.perf_counter()
        batches = _Batches()
        written = self._writer.submit(
            _write, self._folder, recipe, schemas, shard_name(shard_index), start, batches
        )
        try:
            with _repeatable_arithmetic():
                for rendered in _one_behind(self._render(schemas, start)):
                    rendered.copy.wait()
                    batches.put(rendered, written)
        except BaseException:
            batches.abandon(written)
            raise
        rendering_s = time.perf_counter() - began_at - batches.waited_s
        batches.end(written)
        return StartedShard(shard_index, written, rendering_s, batches.waited_s)

    def _render(self, schemas: Mapping[str, Schema], start: int) -> Iterator[RenderedBatch]:
        """All batches of the shard that begins with sample `start`."""
        size, total = self._recipe.render_batch, self._recipe.samples_per_shard
        batches = [
            np.arange(start + first, start + min(first + size, total))
            for first in range(0, total, size)
        ]
        for indices, inputs in zip(batches, self._drawer.draw(batches), strict=True):
            yield start_batch(self._generator, self._recipe, schemas, indices, inputs)


@dataclass(frozen=True)
class StartedShard:
    """A shard that is rendered and still to be published."""

    index: int
    written: Future[dict[str, ShardInfo]]
    rendering_s: float
    waiting_s: float

    def result(self) -> RenderedShard:
        """Wait until it is complete; raises what went wrong in writing it."""
        since = time.perf_counter()
        shards = self.written.result()
        waiting_s = self.waiting_s + time.perf_counter() - since
        return RenderedShard(self.index, shards, self.rendering_s, waiting_s)


def render_shard(
    generator: TeacherGenerator,
    recipe: PoolRecipe,
    folder: Folder,
    schemas: Mapping[str, Schema],
    shard_index: int,
) -> RenderedShard:
    """Render and publish a single shard, as `ShardRenderer.start` does."""
    with ShardRenderer(generator, recipe, folder) as renderer:
        return renderer.start(schemas, shard_index).result()


class _AbandonedError(Exception):
    """The shard will not be finished."""


class _Batches:
    """Rendered batches on their way to the writer, a few at a time."""

    def __init__(self) -> None:
        self._queue: Queue[RenderedBatch | BaseException | None] = Queue(_MAX_PENDING)
        self.waited_s = 0.0
        """Time that `put` has taken in all."""

    def put(self, batch: RenderedBatch | BaseException | None, written: Future[Any]) -> None:
        """Wait for room; raises what the writer died of."""
        since = time.perf_counter()
        while True:
            try:
                self._queue.put(batch, timeout=_LOOK_S)
                break
            except Full:
                if written.done():
                    written.result()
        self.waited_s += time.perf_counter() - since

    def end(self, written: Future[Any]) -> None:
        """There are no more."""
        self.put(None, written)

    def abandon(self, written: Future[Any]) -> None:
        """Let the writer drop the shard, and wait until it has."""
        with suppress(Exception):  # that of the writer, if it is why
            self.put(_AbandonedError(), written)
            written.result()

    def __iter__(self) -> Iterator[RenderedBatch]:
        while (batch := self._queue.get()) is not None:
            if isinstance(batch, BaseException):
                raise batch
            yield batch


def _write(
    folder: Folder,
    recipe: PoolRecipe,
    schemas: Mapping[str, Schema],
    name: str,
    start: int,
    batches: Iterable[RenderedBatch],
) -> dict[str, ShardInfo]:
    """Runs in the writer's thread: all sets of one shard, published together at the end."""
    with ExitStack() as stack:
        pending = {
            set_name: stack.enter_context(writing_shard(folder / set_name, name, schema, start))
            for set_name, schema in schemas.items()
        }
        for rendered in batches:
            for set_name, columns in rendered.columns(recipe, schemas).items():
                pending[set_name].writer.write(columns)
    return {set_name: shard.info for set_name, shard in pending.items()}


def _one_behind(batches: Iterable[RenderedBatch]) -> Iterator[RenderedBatch]:
    """`batches`, each once its successor is started: a GPU has that while one is waited for."""
    started: list[RenderedBatch] = []
    for batch in batches:
        started.append(batch)
        if len(started) > 1:
            yield started.pop(0)
    yield from started


@contextmanager
def _repeatable_arithmetic() -> Iterator[None]:
    """One CPU thread, no TF32: a shard's bytes must not depend on where it is rendered.

    The order of float sums depends on the number of threads, and a GPU's default precision is not
    the float32 that the recipe names.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.backends.cudnn.flags(
            enabled=True, benchmark=False, deterministic=True, allow_tf32=False
        ):
            yield
    finally:
        torch.set_num_threads(threads)

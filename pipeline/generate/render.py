"""One shard spec -> one shard of the images, and of every set of features that lacks it.

Knows no Ray: `stage.py` renders in Ray tasks or in this process, with the same bytes as result. A
thread writes while the next batch is rendered.
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

from pipeline.generate.plan import PoolRecipe
from pipeline.teacher.interface import TeacherGenerator
from pipeline.teacher.sampling import Samples, draw_samples
from shards.manifest import ShardInfo, shard_name
from shards.schema import Schema, W, encode_meta
from shards.storage import Folder
from shards.writer import writing_shard

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
"""Torch's names of the recipe's precisions."""
_MAX_PENDING = 2  # batches that wait to be written
_LOOK_S = 0.5

Columns = dict[str, np.ndarray]


@dataclass(frozen=True)
class RenderedShard:
    """A shard that is complete in every set: one manifest row for each, and where the time went."""

    index: int
    shards: dict[str, ShardInfo]
    rendering_s: float
    waiting_s: float
    """Not rendering: waiting for the writer, or for the storage at the end."""


class ShardRenderer:
    """Renders shards, one after the other; a thread writes them, and publishes each while the next
    is rendered. A context manager.

    Args:
        generator: in evaluation mode, on its device.
        recipe: of the pool.
        folder: of the pool.
    """

    def __init__(self, generator: TeacherGenerator, recipe: PoolRecipe, folder: Folder) -> None:
        self._generator = generator
        self._recipe = recipe
        self._folder = folder
        self._writer = ThreadPoolExecutor(1, "writer")

    def __enter__(self) -> ShardRenderer:
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.shutdown()

    def start(self, schemas: Mapping[str, Schema], shard_index: int) -> StartedShard:
        """Render samples `shard_index * n` … for the sets `schemas` (name -> columns); when this
        returns, the last of them are still being written.

        Raises:
            ValueError: if a feature is not finite in its type.
            OSError: if something cannot be written.
        """
        recipe = self._recipe
        start = shard_index * recipe.samples_per_shard
        stop = start + recipe.samples_per_shard
        began_at, waiting_s = time.perf_counter(), 0.0
        batches = _Batches()
        written = self._writer.submit(
            _write, self._folder, schemas, shard_name(shard_index), start, batches
        )
        try:
            with _repeatable_arithmetic():
                for first in range(start, stop, recipe.render_batch):
                    indices = np.arange(first, min(first + recipe.render_batch, stop))
                    rendered = render_batch(self._generator, recipe, schemas, indices)
                    since = time.perf_counter()
                    batches.put(rendered, written)
                    waiting_s += time.perf_counter() - since
        except BaseException:
            batches.abandon(written)
            raise
        rendering_s = time.perf_counter() - began_at - waiting_s
        batches.end(written)
        return StartedShard(shard_index, written, rendering_s, waiting_s)


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
        self._queue: Queue[dict[str, Columns] | BaseException | None] = Queue(_MAX_PENDING)

    def put(self, batch: dict[str, Columns] | BaseException | None, written: Future[Any]) -> None:
        """Wait for room; raises what the writer died of."""
        while True:
            try:
                return self._queue.put(batch, timeout=_LOOK_S)
            except Full:
                if written.done():
                    written.result()

    def end(self, written: Future[Any]) -> None:
        """There are no more."""
        self.put(None, written)

    def abandon(self, written: Future[Any]) -> None:
        """Let the writer drop the shard, and wait until it has."""
        with suppress(Exception):  # that of the writer, if it is why
            self.put(_AbandonedError(), written)
            written.result()

    def __iter__(self) -> Iterator[dict[str, Columns]]:
        while (batch := self._queue.get()) is not None:
            if isinstance(batch, BaseException):
                raise batch
            yield batch


def _write(
    folder: Folder,
    schemas: Mapping[str, Schema],
    name: str,
    start: int,
    batches: Iterable[dict[str, Columns]],
) -> dict[str, ShardInfo]:
    """Runs in the writer's thread: all sets of one shard, published together at the end."""
    with ExitStack() as stack:
        pending = {
            set_name: stack.enter_context(writing_shard(folder / set_name, name, schema, start))
            for set_name, schema in schemas.items()
        }
        for rendered in batches:
            for set_name, columns in rendered.items():
                pending[set_name].writer.write(columns)
    return {set_name: shard.info for set_name, shard in pending.items()}


def render_batch(
    generator: TeacherGenerator,
    recipe: PoolRecipe,
    schemas: Mapping[str, Schema],
    indices: np.ndarray,
) -> dict[str, Columns]:
    """Columns of the samples `indices` [n] for every set of `schemas`: image uint8 [n, 3, R, R], w
    float16 and meta, or features.
    """
    names = {block.name for schema in schemas.values() for block in schema.features}
    samples = draw_samples(generator, recipe.sampling, indices, sorted(names))

    def columns(schema: Schema) -> Columns:
        if not schema.features:
            return {
                "image": samples.image.cpu().numpy(),
                W: samples.w.half().cpu().numpy(),
                "meta": _describe_samples(recipe, samples, indices),
            }
        wanted = [block.name for block in schema.features]
        pooled = samples.pooled(wanted).cpu().numpy()
        features = pooled.astype(schema.column("features").dtype)
        if not np.isfinite(features).all():
            raise ValueError(
                f"features of samples {indices[0]}-{indices[-1]} are not finite in {features.dtype}"
            )
        return {"features": features}

    with np.errstate(over="ignore"):  # an overflow is reported above
        return {name: columns(schema) for name, schema in schemas.items()}


def _describe_samples(recipe: PoolRecipe, samples: Samples, indices: np.ndarray) -> np.ndarray:
    classes = samples.classes
    return encode_meta(
        {"index": int(index), "seed": recipe.seed}
        | ({} if classes is None else {"label": int(classes[row])})
        for row, index in enumerate(indices)
    )


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

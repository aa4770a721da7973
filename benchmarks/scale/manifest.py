"""Manifests of pools that are too large to be rendered here: rows by the pipeline's own writer,
files of holes, then all that a training does before and while it reads.
"""

from __future__ import annotations

import statistics
import tempfile
from dataclasses import dataclass
from functools import partial

import numpy as np

from benchmarks.measure import peak_mb, resident_mb, timed
from benchmarks.random_shards import open_pool
from benchmarks.scale.run import leave_empty_file
from benchmarks.speed.stream_samples import KINDS, Kind
from pipeline.config.train import TrainConfig
from pipeline.samples.order import Order
from pipeline.samples.seeding import numpy_generator
from shards.manifest import MANIFEST_FOLDER, ManifestWriter, read_manifest
from shards.pool import IMAGES, PoolReader
from shards.schema import Schema, W
from shards.storage import Folder

SAMPLES_PER_SHARD = 1000
_LOOKUPS = 50
_BATCH = 256
BLOCKS = (40, 76)
"""Tar blocks of a sample with a JPEG of 256 px, least and most: 20 to 39 kB."""


@dataclass(frozen=True)
class ManifestTurn:
    """What one pool found; both of its sets together, unless said."""

    kind: str
    num_samples: int
    file_mb: float
    num_parts: int
    read_s: float
    """Of the images' manifest."""
    open_s: float
    """A `PoolReader`: both manifests, and the sizes of all files."""
    peak_mb: float
    """The most that the process held beyond what it had before."""
    lookup_ms: float
    """Latent and features of one random sample, its shards not yet mapped: mostly what the disk
    reads ahead (8 MB here).
    """
    again_ms: float
    """The same sample again."""
    order_s: float
    """The training's order of samples, up to its first batch."""
    resume_ms: float
    """Its batch at a random step, elsewhere in the pass."""
    step_ms: float
    """Its next batch."""


def take_manifest(kind_name: str, num_samples: int) -> ManifestTurn:
    """Write and read a pool of so many samples of a kind; runs in a process of its own."""
    kind = KINDS[kind_name]
    schemas = kind.schemas
    with tempfile.TemporaryDirectory() as path:
        folder = Folder.at(path)
        before = resident_mb()
        _write_pool_of_holes(folder, schemas, num_samples)
        parts = [
            size
            for name in schemas
            for size in (folder / name / MANIFEST_FOLDER).list_files().values()
        ]
        _, read_s = timed(partial(read_manifest, folder / IMAGES))
        reader, open_s = timed(partial(open_pool, folder, schemas))
        lookups = _time_lookups(reader, kind)
        order, order_s = timed(partial(_start_order, reader))
        orders = _time_order(order)
        return ManifestTurn(
            kind_name,
            num_samples,
            sum(parts) / 2**20,
            len(parts),
            read_s,
            open_s,
            peak_mb() - before,
            *lookups,
            order_s,
            *orders,
        )


def _write_pool_of_holes(folder: Folder, schemas: dict[str, Schema], num_samples: int) -> None:
    """Empty files, and the manifest rows of real ones."""
    generator = numpy_generator(0, "benchmark/scaling/blocks", 0)
    for name, schema in schemas.items():
        writer = ManifestWriter(folder / name, schema)
        for position, start in enumerate(range(0, num_samples, SAMPLES_PER_SHARD), start=1):
            blocks = None
            if not schema.is_fixed:
                blocks = generator.integers(*BLOCKS, SAMPLES_PER_SHARD).astype("<u2").tobytes()
            writer.add(leave_empty_file(folder / name, schema, start, SAMPLES_PER_SHARD, blocks))
            if position % 100 == 0:  # a run lists several times a part
                writer.flush()
        writer.flush()


def _time_lookups(reader: PoolReader, kind: Kind) -> tuple[float, float]:
    """Milliseconds of one sample, at first and again."""
    generator = numpy_generator(0, "benchmark/scaling/lookups", 0)
    num_shards = len(reader.images.shards)
    shards = generator.permutation(num_shards)[: min(_LOOKUPS, num_shards)]
    rows = shards * SAMPLES_PER_SHARD + generator.integers(0, SAMPLES_PER_SHARD, len(shards))
    look = partial(reader.gather_features, [*kind.feature_names, W])
    first, again = (
        statistics.median(timed(partial(look, np.array([row])))[1] for row in rows)
        for _ in range(2)
    )
    return 1e3 * first, 1e3 * again


def _start_order(reader: PoolReader) -> Order:
    order = Order(reader.images.shard_sizes, 0, "benchmark", TrainConfig().shuffle_samples)
    order.indices(0, _BATCH)
    return order


def _time_order(order: Order) -> tuple[float, float]:
    """Milliseconds to a batch elsewhere, and from there to the next."""
    first = order.num_samples // 2 // _BATCH
    resume_s, *steps = (
        timed(partial(order.indices, step * _BATCH, _BATCH))[1]
        for step in range(first, first + 100)
    )
    return 1e3 * resume_s, 1e3 * statistics.median(steps)

"""Shards of made-up samples, as real as the pipeline's own: same schemas, same writer.

Neighbours: `train_step.py` and `stream.py` read them. Content does not matter to their timings, but
for how small a JPEG of it is; sizes do.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from pipeline.config.root import Config
from pipeline.samples.seeding import numpy_generator
from pipeline.teacher.training.step import build_architectures
from shards.manifest import Manifest, shard_name, write_manifest
from shards.pool import IMAGES
from shards.schema import (
    Schema,
    encode_meta,
    feature_schema,
    feature_set_name,
    real_schema,
    synthetic_schema,
)
from shards.storage import Folder
from shards.writer import Arrays, write_shard

FEATURE_TYPE = "float16"
Blocks = list[tuple[str, int]]


def write_random_shards(config: Config, num_samples: int, folder: Path) -> Blocks:
    """Write `num_samples` to each of `folder`/real and the pool `folder`/synthetic, at `config`'s
    sizes; returns names and widths of the pool's features, all in the set that they name.
    """
    arch, _ = build_architectures(config.teacher, config.real.resolution)
    blocks = [(f"synthesis.b{r}", arch.num_channels(r)) for r in arch.block_resolutions]
    schemas = {
        "real": real_schema(arch.resolution),
        f"synthetic/{IMAGES}": synthetic_schema(arch.resolution, arch.w_dim),
        f"synthetic/{feature_set(blocks)}": feature_schema(blocks, FEATURE_TYPE),
    }
    for name, schema in schemas.items():
        shard_size = config.generate.samples_per_shard
        write_shards(Folder.at(folder / name), schema, num_samples, shard_size, random_columns)
    return blocks


def feature_set(blocks: Blocks) -> str:
    """Name of the set that holds the features `blocks`."""
    return feature_set_name((name for name, _ in blocks), FEATURE_TYPE)


def random_columns(schema: Schema, rows: range) -> Arrays:
    """Every column of the samples `rows`, from a counter of theirs."""
    generator = numpy_generator(0, "benchmark/shards", rows.start)
    columns = {}
    for column in schema.columns:
        shape = (len(rows), *column.shape)
        if column.name == "meta":
            columns["meta"] = encode_meta({"index": row} for row in rows)
        elif column.name in ("image", "label"):
            high = 256 if column.name == "image" else 10
            columns[column.name] = generator.integers(0, high, shape).astype(column.dtype)
        else:
            values = generator.standard_normal(shape, dtype=np.float32)
            columns[column.name] = values.astype(column.dtype)
    return columns


def write_shards(
    folder: Folder,
    schema: Schema,
    num_samples: int,
    samples_per_shard: int,
    columns: Callable[[Schema, range], Arrays],
) -> None:
    """Write shards and manifest to `folder`; `columns` makes the samples of one shard."""
    shards = []
    for shard_index, start in enumerate(range(0, num_samples, samples_per_shard)):
        rows = range(start, min(start + samples_per_shard, num_samples))
        content = columns(schema, rows)
        shards.append(write_shard(folder, shard_name(shard_index), schema, start, [content]))
    write_manifest(folder, Manifest(schema, tuple(shards)))

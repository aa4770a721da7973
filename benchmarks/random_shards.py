"""Shards of made-up samples, as real as the pipeline's own: same schemas, same writer. Content does
not matter to timings, but for how small a JPEG of it is; sizes do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from pipeline.config.root import Config
from pipeline.samples.seeding import numpy_generator, torch_generator
from pipeline.teacher.architectures.stylegan2 import StyleGAN2Architecture
from pipeline.teacher.training.step import build_architectures
from pipeline.train.data import TrainingShards
from shards.manifest import Manifest, shard_name, write_manifest
from shards.pool import IMAGES, PoolReader
from shards.reader import ShardReader
from shards.schema import (
    Codec,
    Column,
    Schema,
    encode_meta,
    feature_schema,
    feature_set_name,
    real_schema,
    synthetic_schema,
)
from shards.storage import Folder
from shards.writer import Arrays, write_shard

Blocks = Sequence[tuple[str, int]]
"""Names and widths of features."""
_CHUNK = 16


def write_random_shards(config: Config, num_samples: int, folder: Path) -> TrainingShards:
    """What a training of `config`'s sizes reads: `num_samples` real ones and a pool of as many, all
    its features in one set, written under `folder`.
    """
    arch, _ = build_architectures(config.teacher, config.real.resolution)
    blocks, size = blocks_of(arch), config.generate.samples_per_shard
    schemas = pool_schemas(blocks, arch.resolution, arch.w_dim)
    write_sets(folder, {"real": real_schema(arch.resolution)}, num_samples, size)
    write_sets(folder / "synthetic", schemas, num_samples, size)
    return TrainingShards(
        real=ShardReader(folder / "real", remedy=""),
        synthetic=open_pool(folder / "synthetic", schemas),
        view_size=config.view_size,
        features=tuple(name for name, _ in blocks),
    )


def blocks_of(
    arch: StyleGAN2Architecture, resolutions: Sequence[int] | None = None
) -> list[tuple[str, int]]:
    """The features of a generator, of all blocks or of those `resolutions`."""
    return [
        (f"synthesis.b{side}", arch.num_channels(side))
        for side in resolutions or arch.block_resolutions
    ]


def pool_schemas(
    blocks: Blocks, resolution: int, w_dim: int, codec: Codec = "npy", quality: int | None = None
) -> dict[str, Schema]:
    """The sets of a pool: images, and the features `blocks`."""
    features = feature_set_name((name for name, _ in blocks), "float16")
    images = synthetic_schema(resolution, w_dim, codec, quality)
    return {IMAGES: images, features: feature_schema(blocks)}


def open_pool(folder: Path | Folder, schemas: Mapping[str, Schema]) -> PoolReader:
    """The pool of those sets in `folder`."""
    return PoolReader(folder, [name for name in schemas if name != IMAGES], remedy="write it again")


def write_sets(
    folder: Path, schemas: Mapping[str, Schema], num_samples: int, samples_per_shard: int
) -> None:
    """Write sets of random samples under `folder`."""
    for name, schema in schemas.items():
        place, shards = Folder.at(folder / name), []
        for index, start in enumerate(range(0, num_samples, samples_per_shard)):
            rows = range(start, min(start + samples_per_shard, num_samples))
            columns = random_columns(schema, rows)
            shards.append(write_shard(place, shard_name(index), schema, start, [columns]))
        write_manifest(place, Manifest(schema, tuple(shards)))


def random_columns(schema: Schema, rows: range) -> Arrays:
    """Every column of the samples `rows`, from a counter of theirs."""
    generator = numpy_generator(0, "benchmark/shards", rows.start)

    def draw(column: Column) -> np.ndarray:
        shape = (len(rows), *column.shape)
        if column.name == "meta":
            return encode_meta({"index": row} for row in rows)
        if column.is_encoded:
            parts = [rows[start : start + _CHUNK] for start in range(0, len(rows), _CHUNK)]
            return np.concatenate([_photographs(column.shape[-1], part) for part in parts])
        if column.name in ("image", "label"):
            high = 256 if column.name == "image" else 10
            return generator.integers(0, high, shape).astype(column.dtype)
        return generator.standard_normal(shape, dtype=np.float32).astype(column.dtype)

    return {column.name: draw(column) for column in schema.columns}


def _photographs(resolution: int, rows: range) -> np.ndarray:
    """uint8 [n, 3, R, R]: noise of all scales, the finer the fainter, so that a JPEG is as large as
    a photograph's.
    """
    generator = torch_generator(0, "benchmark/images", rows.start)
    total = torch.zeros(len(rows), 3, 2, 2)
    for level in range(2, resolution.bit_length()):
        total = torch.nn.functional.interpolate(total, scale_factor=2, mode="bilinear")
        total += torch.randn(total.shape, generator=generator) * 0.7**level
    pixels: np.ndarray = (total * 120 + 128).clamp(0, 255).to(torch.uint8).numpy()
    return pixels

"""Shards of random images and features, as real as the pipeline's own: same schema, same writer.

Neighbour: `train_step.py` reads them. Content does not matter to its timings, sizes do.
"""

from __future__ import annotations

from pathlib import Path

from pipeline.config import Config
from pipeline.seeding import numpy_generator
from pipeline.teacher.train import build_architectures
from shards.manifest import Manifest, write_manifest
from shards.schema import Schema, encode_meta, real_schema, teacher_schema
from shards.writer import shard_name, write_shard


def write_random_shards(config: Config, num_samples: int, folder: Path) -> None:
    """Write `num_samples` to each of `folder`/real and `folder`/synthetic, at `config`'s sizes."""
    arch, _ = build_architectures(config.teacher, config.real.resolution)
    blocks = [(f"synthesis.b{r}", arch.num_channels(r)) for r in arch.block_resolutions]
    schemas = {
        "real": real_schema(arch.resolution),
        "synthetic": teacher_schema(arch.resolution, blocks, arch.w_dim),
    }
    for domain, schema in schemas.items():
        _write(schema, num_samples, config.generate.samples_per_shard, folder / domain)


def _write(schema: Schema, num_samples: int, samples_per_shard: int, folder: Path) -> None:
    shards = []
    for shard_index, start in enumerate(range(0, num_samples, samples_per_shard)):
        rows = range(start, min(start + samples_per_shard, num_samples))
        generator = numpy_generator(0, "benchmark/shards", shard_index)
        columns = {"meta": encode_meta({"index": row} for row in rows)}
        for column in schema.columns:
            shape = (len(rows), *column.shape)
            if column.name in ("image", "label"):
                high = 256 if column.name == "image" else 10
                columns[column.name] = generator.integers(0, high, shape).astype(column.dtype)
            elif column.name != "meta":
                columns[column.name] = generator.standard_normal(shape).astype(column.dtype)
        path = folder / shard_name(shard_index)
        shards.append(write_shard(path, schema, start, [columns]))
    write_manifest(folder, Manifest(schema, tuple(shards)))

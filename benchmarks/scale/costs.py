"""What pools of two sizes take: bytes, objects, GPU-hours, network. Calculated, but for what a
sample takes, which is that of shards written by the pipeline's own writer, and for a generator's
operations, which are counted.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.datasets import load_sample_images

from benchmarks.measure import OURS, ResultTable, TableCell
from benchmarks.random_shards import blocks_of, pool_schemas, random_columns
from benchmarks.scale.manifest import BLOCKS, SAMPLES_PER_SHARD
from benchmarks.speed.render import build_random_generator, build_renderers, count_gflop
from pipeline.config.teacher import TeacherConfig, auto_recipe
from pipeline.teacher.architectures.stylegan2 import StyleGAN2Architecture
from pipeline.teacher.training.step import build_architectures
from shards.manifest import ManifestWriter, ShardInfo, shard_name
from shards.schema import Codec, Schema
from shards.storage import Folder
from shards.writer import write_shard

TFLOPS = {"float32": 20.0, "bfloat16": 150.0}
"""Assumed of one GPU of the H100's kind: 30 % of its 67 in float32, 15 % of its 989 in bfloat16."""
_MEASURED_SAMPLES = 64
_PART_ROWS = 1000
_CODECS: dict[str, tuple[Codec, int | None]] = {
    "npy": ("npy", None),
    "png": ("png", None),
    "webp, lossless": ("webp", 100),
    "jpg, quality 95": ("jpg", 95),
    "jpg, quality 90": ("jpg", 90),
}


@dataclass(frozen=True)
class PlannedPool:
    """A pool to be reckoned."""

    name: str
    num_samples: int
    arch: StyleGAN2Architecture
    codecs: tuple[str, ...]
    """The last one is that of the table of costs."""
    read_per_s: float
    """Samples that a training on one GPU takes: 256 in 768 views, at 134 TFLOP/s."""

    def schemas(self, codec: str, resolutions: tuple[int, ...] = ()) -> tuple[Schema, Schema]:
        """Of images, and of the features of some blocks or all."""
        blocks = blocks_of(self.arch, resolutions)
        name, quality = _CODECS[codec]
        schemas = pool_schemas(blocks, self.arch.resolution, self.arch.w_dim, name, quality)
        images, features = schemas.values()
        return images, features


def make_pools() -> list[PlannedPool]:
    """20 M of CIFAR's size, 100 M of 256 px."""
    small, _ = build_architectures(TeacherConfig(), 32)
    large, _ = build_architectures(TeacherConfig.model_validate(auto_recipe(256)), 256)
    return [
        PlannedPool("32 px", 20_000_000, small, ("npy",), 13_300),  # views of 3.3 GFLOP
        PlannedPool("256 px", 100_000_000, large, tuple(_CODECS), 1_800),  # 25 GFLOP
    ]


def measure_sample_bytes(schema: Schema, images: np.ndarray | None = None) -> float:
    """Bytes per sample of a shard as the writer makes it, of `images` [n, 3, R, R] if it has any;
    what ends the tar is not counted.
    """
    rows = range(_MEASURED_SAMPLES if images is None else len(images))
    columns = {**random_columns(schema, rows), **({} if images is None else {"image": images})}
    with tempfile.TemporaryDirectory() as path:
        shard = write_shard(Folder.at(path), shard_name(0), schema, 0, [columns])
    return float(schema.sample_offsets(len(rows), shard.sample_blocks)[-1]) / len(rows)


def measure_row_bytes(schema: Schema, num_rows: int = _PART_ROWS) -> float:
    """Bytes per row of a full part of a manifest."""
    generator = np.random.default_rng(0)
    blocks = generator.integers(*BLOCKS, (num_rows, SAMPLES_PER_SHARD)).astype("<u2")
    with tempfile.TemporaryDirectory() as path:
        folder = Folder.at(path)
        writer = ManifestWriter(folder, schema)
        for index in range(num_rows):
            sizes = None if schema.is_fixed else blocks[index].tobytes()
            start, digest = index * SAMPLES_PER_SHARD, generator.bytes(32).hex()
            row = ShardInfo(shard_name(index), start, SAMPLES_PER_SHARD, 2**40, digest, sizes)
            writer.add(row)
        writer.flush()
        return folder.total_bytes() / num_rows


def photographs(resolution: int) -> np.ndarray:
    """uint8 [n, 3, R, R]: tiles of the two photographs in scikit-learn, overlapping."""
    tiles = []
    for photograph in load_sample_images().images:
        height, width = (side - resolution for side in photograph.shape[:2])
        for top in np.linspace(0, height, 4).astype(int):
            for left in np.linspace(0, width, 8).astype(int):
                tiles.append(photograph[top : top + resolution, left : left + resolution])
    return np.stack(tiles).transpose(0, 3, 1, 2)


def gpu_hours(num_samples: int, gflop: float, tflops: float) -> float:
    """Hours of one GPU for so many samples of `gflop` each at `tflops`."""
    return num_samples * gflop / 1e3 / tflops / 3600


def num_objects(num_samples: int, samples_per_shard: int, num_sets: int, part_rows: int) -> int:
    """Files of a pool: shards and manifest parts of every set, and its recipe."""
    num_shards = -(-num_samples // samples_per_shard)
    return num_sets * (num_shards + -(-num_shards // part_rows)) + 1


def tabulate_costs() -> list[ResultTable]:
    """Bytes of a sample by codec and by blocks, then all of each pool."""
    sample_rows: list[tuple[TableCell, ...]] = []
    cost_rows: list[tuple[TableCell, ...]] = []
    for pool in make_pools():
        parts = dict(_sample_bytes(pool))
        sample_rows += [
            (f"{pool.name}: {part}", found, pool.num_samples * found / 1e12)
            for part, found in parts.items()
        ]
        per_sample = parts[f"images, {pool.codecs[-1]}"] + parts["features, all blocks"]
        cost_rows += [(f"{pool.name}: {name}", value) for name, value in _costs(pool, per_sample)]
    return [
        ResultTable("bytes", ("", "bytes/sample", "TB"), sample_rows),
        ResultTable("costs", ("", "value"), cost_rows),
    ]


def _sample_bytes(pool: PlannedPool) -> Iterator[tuple[str, float]]:
    for codec in pool.codecs:
        images, _ = pool.schemas(codec)
        yield f"images, {codec}", measure_sample_bytes(images, photographs(pool.arch.resolution))
    blocks: dict[str, tuple[int, ...]] = {"all blocks": (), "b4 to b16": (4, 8, 16), "b16": (16,)}
    for name, resolutions in blocks.items():
        _, features = pool.schemas("npy", resolutions)
        yield f"features, {name}", measure_sample_bytes(features)


def _costs(pool: PlannedPool, sample_bytes: float) -> Iterator[tuple[str, float]]:
    renderers = build_renderers(build_random_generator(pool.arch, torch.device("cpu")), batch=1)
    gflop = count_gflop(renderers[OURS], batch=1)
    num_shards = pool.num_samples // SAMPLES_PER_SHARD
    row_bytes = sum(map(measure_row_bytes, pool.schemas(pool.codecs[-1])))
    objects = num_objects(pool.num_samples, SAMPLES_PER_SHARD, 2, _PART_ROWS)
    yield "TB, images and all features", pool.num_samples * sample_bytes / 1e12
    yield "shards per set", num_shards
    yield "objects", objects
    yield "MB per shard, images and features", SAMPLES_PER_SHARD * sample_bytes / 1e6
    yield "manifests, MB", num_shards * row_bytes / 1e6
    yield "GFLOP per sample", gflop
    yield "MB/s read by a training", pool.read_per_s * sample_bytes / 1e6
    for arithmetic, tflops in TFLOPS.items():
        rate = 1e3 * tflops / gflop
        yield f"samples/s of a GPU, {arithmetic}", rate
        yield f"GPU-hours, {arithmetic}", gpu_hours(pool.num_samples, gflop, tflops)
        yield f"MB/s written by a GPU, {arithmetic}", rate * sample_bytes / 1e6
        yield f"seconds per shard, {arithmetic}", SAMPLES_PER_SHARD / rate

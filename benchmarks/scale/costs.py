"""What pools of two sizes take: bytes, objects, GPU-hours, network. Calculated, but for what a
sample takes, which is that of shards written by the pipeline's own writer, and for a generator's
operations, which are counted.

Neighbours: `__main__.py` prints it, docs/scaling.md explains it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.datasets import load_sample_images

from benchmarks.measure import ResultTable
from benchmarks.random_shards import random_columns
from benchmarks.speed.render import build_random_generator, build_renderers, count_gflop
from pipeline.config.teacher import TeacherConfig, auto_recipe
from pipeline.teacher.architecture import StyleGAN2Architecture
from pipeline.teacher.training.step import build_architectures
from shards.manifest import ManifestWriter, ShardInfo, shard_name
from shards.schema import Codec, Schema, feature_schema, synthetic_schema
from shards.storage import Folder
from shards.writer import write_shard

SAMPLES_PER_SHARD = 1000
TFLOPS = {"float32": 20.0, "bfloat16": 150.0}
"""Assumed of one GPU of the H100's kind: 30 % of its 67 in float32, 15 % of its 989 in bfloat16."""
_MEASURED_SAMPLES = 64
_CODECS: dict[str, tuple[Codec, int | None]] = {
    "npy": ("npy", None),
    "png": ("png", None),
    "webp, lossless": ("webp", 100),
    "jpg, quality 95": ("jpg", 95),
    "jpg, quality 90": ("jpg", 90),
}


@dataclass(frozen=True)
class Pool:
    """A pool to be reckoned."""

    name: str
    num_samples: int
    arch: StyleGAN2Architecture
    codecs: tuple[str, ...]
    codec: str
    """The one that the table of costs takes."""
    read_per_s: float
    """Samples that a training on one GPU takes: 256 in 768 views, at 134 TFLOP/s."""


def make_pools() -> list[Pool]:
    """20 M of CIFAR's size, 100 M of 256 px."""
    small, _ = build_architectures(TeacherConfig(), 32)
    large, _ = build_architectures(TeacherConfig.model_validate(auto_recipe(256)), 256)
    return [
        Pool("32 px", 20_000_000, small, ("npy",), "npy", 13_300),  # views of 3.3 GFLOP
        Pool("256 px", 100_000_000, large, tuple(_CODECS), "jpg, quality 90", 1_800),  # 25 GFLOP
    ]


def measure_sample_bytes(schema: Schema, images: np.ndarray | None = None) -> float:
    """Bytes per sample of a shard as the writer makes it, of `images` [n, 3, R, R] if it has any;
    what ends the tar is not counted.
    """
    rows = range(_MEASURED_SAMPLES if images is None else len(images))
    columns = dict(random_columns(schema, rows))
    if images is not None:
        columns["image"] = images
    with tempfile.TemporaryDirectory() as path:
        shard = write_shard(Folder.at(path), shard_name(0), schema, 0, [columns])
    return float(schema.sample_offsets(len(rows), shard.sample_blocks)[-1]) / len(rows)


def measure_row_bytes(schema: Schema, num_rows: int = 1000) -> float:
    """Bytes per row of a full part of a manifest."""
    generator = np.random.default_rng(0)
    blocks = generator.integers(40, 76, (num_rows, SAMPLES_PER_SHARD)).astype("<u2")
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


def driver_share(
    driver_s: float, samples_per_shard: int, samples_per_s: float, num_gpus: int = 1
) -> float:
    """The driver's time for a shard, as a share of the time in which `num_gpus` render one, each
    `samples_per_s`; at 1 they wait for it.
    """
    return driver_s * num_gpus * samples_per_s / samples_per_shard


def tabulate_costs() -> list[ResultTable]:
    """Bytes of a sample by codec and by blocks, then all of each pool."""
    sample_rows: list[tuple[str | float, ...]] = []
    cost_rows: list[tuple[str | float, ...]] = []
    for pool in make_pools():
        images = _image_bytes(pool)
        features = _feature_bytes(pool.arch)
        for part, found in {**images, **features}.items():
            sample_rows.append((f"{pool.name}: {part}", found, pool.num_samples * found / 1e12))
        per_sample = images[f"images, {pool.codec}"] + next(iter(features.values()))
        cost_rows += [(f"{pool.name}: {name}", value) for name, value in _costs(pool, per_sample)]
    return [
        ResultTable("bytes", ("", "bytes/sample", "TB"), sample_rows),
        ResultTable("costs", ("", "value"), cost_rows),
    ]


def _image_bytes(pool: Pool) -> Mapping[str, float]:
    arch, found = pool.arch, {}
    for name in pool.codecs:
        schema = synthetic_schema(arch.resolution, arch.w_dim, *_CODECS[name])
        found[f"images, {name}"] = measure_sample_bytes(schema, photographs(arch.resolution))
    return found


def _feature_bytes(arch: StyleGAN2Architecture) -> Mapping[str, float]:
    def measure(resolutions: Iterable[int]) -> float:
        blocks = [(f"synthesis.b{r}", arch.num_channels(r)) for r in resolutions]
        return measure_sample_bytes(feature_schema(blocks))

    return {
        "features, all blocks": measure(arch.block_resolutions),
        "features, b4 to b16": measure([4, 8, 16]),
        "features, b16": measure([16]),
    }


def _costs(pool: Pool, sample_bytes: float) -> list[tuple[str, float]]:
    arch = pool.arch
    renderers = build_renderers(build_random_generator(arch, torch.device("cpu")), batch=1)
    gflop = count_gflop(renderers["ours"], batch=1)
    images = synthetic_schema(arch.resolution, arch.w_dim, *_CODECS[pool.codec])
    features = feature_schema([("all", sum(map(arch.num_channels, arch.block_resolutions)))])
    num_shards = pool.num_samples // SAMPLES_PER_SHARD
    row_bytes = measure_row_bytes(images) + measure_row_bytes(features)
    costs = [
        ("TB, images and all features", pool.num_samples * sample_bytes / 1e12),
        ("shards per set", num_shards),
        ("objects", num_objects(pool.num_samples, SAMPLES_PER_SHARD, 2, 1000)),
        ("MB per shard, images and features", SAMPLES_PER_SHARD * sample_bytes / 1e6),
        ("manifests, MB", num_shards * row_bytes / 1e6),
        ("GFLOP per sample", gflop),
        ("MB/s read by a training", pool.read_per_s * sample_bytes / 1e6),
    ]
    for arithmetic, tflops in TFLOPS.items():
        rate = 1e3 * tflops / gflop
        costs += [
            (f"samples/s of a GPU, {arithmetic}", rate),
            (f"GPU-hours, {arithmetic}", gpu_hours(pool.num_samples, gflop, tflops)),
            (f"MB/s written by a GPU, {arithmetic}", rate * sample_bytes / 1e6),
            (f"seconds per shard, {arithmetic}", SAMPLES_PER_SHARD / rate),
        ]
    return costs

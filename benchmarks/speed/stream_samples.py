"""The samples that `stream.py` reads: a pool of made-up images and pooled features, and the same
samples again for whoever stores them in a format of their own, as `stream_tools.py` does.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.random_shards import (
    FEATURE_TYPE,
    Blocks,
    feature_set,
    random_columns,
    write_shards,
)
from pipeline.samples.seeding import torch_generator
from shards.pool import IMAGES, PoolReader
from shards.schema import Codec, Schema, feature_schema, synthetic_schema
from shards.storage import Folder
from shards.writer import Arrays

QUALITY = 90
_W_DIM = 512
_CHUNK = 16


@dataclass(frozen=True)
class Kind:
    """Samples of one size."""

    name: str
    resolution: int
    codec: Codec
    blocks: Blocks
    """Names and widths of the features."""
    num_samples: int
    samples_per_shard: int

    @property
    def feature_names(self) -> list[str]:
        """As `PoolReader.gather_features` takes them."""
        return [name for name, _ in self.blocks]

    @property
    def num_features(self) -> int:
        """Width of a sample's features, end to end."""
        return sum(width for _, width in self.blocks)

    def resized(self, num_samples: int, samples_per_shard: int) -> Kind:
        """As many of them as that."""
        return replace(self, num_samples=num_samples, samples_per_shard=samples_per_shard)


def _blocks(*widths: int) -> Blocks:
    return [(f"synthesis.b{4 << level}", width) for level, width in enumerate(widths)]


KINDS = {
    "raw": Kind("raw", 32, "npy", _blocks(512, 512, 512, 512), 20 * 1024, 1024),
    "jpg": Kind("jpg", 256, "jpg", _blocks(512, 512, 512, 512, 256, 128), 2048, 256),
}


def write_pool(kind: Kind, folder: Path) -> None:
    """Write the pool of `kind` to `folder`."""
    schemas = {
        IMAGES: synthetic_schema(kind.resolution, _W_DIM, kind.codec, QUALITY),
        feature_set(kind.blocks): feature_schema(kind.blocks, FEATURE_TYPE),
    }
    for name, schema in schemas.items():
        path = Folder.at(folder / name)
        write_shards(path, schema, kind.num_samples, kind.samples_per_shard, _columns)


def open_pool(kind: Kind, folder: Path) -> PoolReader:
    """What `write_pool` wrote."""
    return PoolReader(folder, [feature_set(kind.blocks)], remedy="write it again")


@dataclass(frozen=True)
class Sample:
    """One of a pool: uint8 [3, R, R], or the bytes of a JPEG, and float16 [num_features]."""

    index: int
    image: np.ndarray | bytes
    features: np.ndarray


def read_samples(kind: Kind, folder: Path) -> Iterator[Sample]:
    """The samples of the pool in `folder`, in order."""
    pool = open_pool(kind, folder)
    for shard in pool.images.shards:
        rows = np.arange(shard.start_index, shard.start_index + shard.num_samples)
        features = pool.gather_features(kind.feature_names, rows)
        images: np.ndarray | list[bytes]
        if kind.codec == "npy":
            images = pool.images.gather("image", rows)
        else:
            images = _read_contents(pool.images.folder.path / shard.name, f".{kind.codec}")
        for row, index in enumerate(rows.tolist()):
            yield Sample(index, images[row], features[row])


def _read_contents(path: Path, suffix: str) -> list[bytes]:
    with tarfile.open(path) as tar:
        files = [tar.extractfile(member) for member in tar if member.name.endswith(suffix)]
        return [file.read() for file in files if file is not None]


def _columns(schema: Schema, rows: range) -> Arrays:
    columns = dict(random_columns(schema, rows))
    if "image" in columns and schema.column("image").is_encoded:
        parts = [rows[start : start + _CHUNK] for start in range(0, len(rows), _CHUNK)]
        images = [_make_images(schema.column("image").shape[-1], part) for part in parts]
        columns["image"] = np.concatenate(images)
    return columns


def _make_images(resolution: int, rows: range) -> np.ndarray:
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

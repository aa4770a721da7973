"""The samples that `stream.py` reads: a pool of made-up images and pooled features, and the same
samples again for whoever stores them in a format of their own, as `stream_tools.py` does.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.random_shards import Blocks, open_pool, pool_schemas, write_sets
from shards.pool import PoolReader
from shards.schema import Codec, Schema

QUALITY = 90
W_DIM = 512


@dataclass(frozen=True)
class Kind:
    """Samples of one size."""

    name: str
    resolution: int
    codec: Codec
    widths: tuple[int, ...]
    """Of the features."""
    num_samples: int
    samples_per_shard: int

    @property
    def blocks(self) -> Blocks:
        """Names and widths of the features."""
        return [(f"synthesis.b{4 << level}", width) for level, width in enumerate(self.widths)]

    @property
    def feature_names(self) -> list[str]:
        """As `PoolReader.gather_features` takes them."""
        return [name for name, _ in self.blocks]

    @property
    def schemas(self) -> dict[str, Schema]:
        """Images and features."""
        return pool_schemas(self.blocks, self.resolution, W_DIM, self.codec, QUALITY)

    def resized(self, num_samples: int) -> Kind:
        """As many of them as that, in 8 shards."""
        return replace(self, num_samples=num_samples, samples_per_shard=-(-num_samples // 8))

    def write(self, folder: Path) -> None:
        """Write the pool to `folder`."""
        write_sets(folder, self.schemas, self.num_samples, self.samples_per_shard)

    def open(self, folder: Path) -> PoolReader:
        """What `write` wrote."""
        return open_pool(folder, self.schemas)


KINDS = {
    "raw": Kind("raw", 32, "npy", (512, 512, 512, 512), 20 * 1024, 1024),
    "jpg": Kind("jpg", 256, "jpg", (512, 512, 512, 512, 256, 128), 2048, 256),
}


@dataclass(frozen=True)
class Sample:
    """One of a pool: uint8 [3, R, R], or the bytes of a JPEG, and all features, float16 [F]."""

    index: int
    image: np.ndarray | bytes
    features: np.ndarray


def read_samples(kind: Kind, folder: Path) -> Iterator[Sample]:
    """The samples of the pool in `folder`, in order."""
    pool = kind.open(folder)
    for shard in pool.images.shards:
        rows = np.arange(shard.start_index, shard.start_index + shard.num_samples)
        features = pool.gather_features(kind.feature_names, rows)
        images: np.ndarray | list[bytes]
        if kind.codec == "npy":
            images = pool.images.gather("image", rows)
        else:
            images = _read_contents(pool.images.folder.path / shard.name, f".{kind.codec}")
        yield from map(Sample, rows.tolist(), images, features)


def _read_contents(path: Path, suffix: str) -> list[bytes]:
    with tarfile.open(path) as tar:
        files = [tar.extractfile(member) for member in tar if member.name.endswith(suffix)]
        return [file.read() for file in files if file is not None]

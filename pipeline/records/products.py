"""What stages hand on: real images, a pool, a student, a teacher; each written by its stage with
`write_record` and read by one function here.

Neighbours: `record.py` keeps products on disk; `shards/` opens what they name. `RealShards` and
`PoolShards` travel to workers, which open readers of their own.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from pipeline.config.root import Config
from pipeline.records.digests import file_digest
from pipeline.records.record import Record, require_record
from shards.cache import Cache
from shards.pool import PoolReader
from shards.reader import ShardReader
from shards.storage import Folder

STUDENT_FILE = "student.safetensors"
RECIPE_FILE = "recipe.json"
"""In each folder of the store: what its content was made of."""
_REAL_REMEDY = "run `make real` again"
_POOL_REMEDY = "run `make generate` again"

Files = dict[str, str]
"""Name -> SHA-256 of a file that a stage left."""


@dataclass(frozen=True)
class RealImages:
    """Real shards."""

    folder: str
    num_samples: dict[str, int]
    """By split, as are the digests."""
    class_names: tuple[str, ...]
    digests: dict[str, str]
    num_available: int | None = None
    """Train images that `real.limit` was drawn from; None without a limit."""
    num_skipped: int = 0
    """Images that could not be read."""


@dataclass(frozen=True)
class Pool:
    """A teacher's samples in the store, and the part of them that the run uses."""

    folder: str
    key: str
    num_samples: int
    features: tuple[str, ...]
    """Names of those asked for."""
    feature_sets: tuple[str, ...]
    """Sets of shards that hold them."""
    resolution: int
    digest: str
    teacher: str
    """Its folder when the pool was rendered."""
    waiting_for_writer: float | None
    """Share of the rendering time; None if nothing was rendered."""


@dataclass(frozen=True)
class Student:
    """A trained backbone, `STUDENT_FILE` in the folder of the training."""

    digest: Annotated[str, Field(alias=STUDENT_FILE)]
    """SHA-256 of the file."""
    pool_size: int
    """Different synthetic samples that the training could see."""
    synthetic: tuple[str, ...] = ()
    """Which they were: digests of pools, or where samples were drawn."""
    init: str | None = None
    """SHA-256 of the file with the weights that training started from."""
    stopped_at_epoch: float | None = None
    """Where training was ended, by hand or by its monitor; None if it went to its end."""


@dataclass(frozen=True)
class TrainedTeacher:
    """A teacher of the run's own."""

    digests: Files
    images_seen: int
    quality: dict[str, Any] | None


@dataclass(frozen=True)
class RealShards:
    """Real images of one split."""

    folder: Folder
    cache: Cache

    def open(self) -> ShardReader:
        """A reader; raises UserError if shards are missing."""
        return ShardReader(self.folder, remedy=_REAL_REMEDY, cache=self.cache)


@dataclass(frozen=True)
class PoolShards:
    """The first `num_samples` samples of a pool, with some sets of features."""

    folder: Folder
    feature_sets: tuple[str, ...]
    num_samples: int
    cache: Cache

    def open(self) -> PoolReader:
        """A reader; raises UserError if shards are missing."""
        return PoolReader(
            self.folder,
            self.feature_sets,
            remedy=_POOL_REMEDY,
            num_samples=self.num_samples,
            cache=self.cache,
        )


def require_real(config: Config) -> Record[RealImages]:
    """The run's real images; raises UserError if the stage has not run under these settings."""
    return require_record(config.run_dir / "real", "real", RealImages, config.real)


def require_pool(config: Config) -> Record[Pool]:
    """The run's pool; raises as `require_real`."""
    return require_record(config.run_dir / "generate", "generate", Pool, config.generate)


def require_student(config: Config) -> Record[Student]:
    """The run's student; raises as `require_real`."""
    return require_record(config.run_dir / "train", "train", Student, config.train)


def student_file(config: Config) -> Path:
    """Where the run's student is, or will be."""
    return config.run_dir / "train" / STUDENT_FILE


def is_intact(path: Path, digest: str | None) -> bool:
    """Whether the file is there with that digest."""
    return path.exists() and file_digest(path) == digest


def real_shards(config: Config, split: str, images: RealImages | None = None) -> RealShards:
    """Shards of `images`, else of the run's, in `split`; raises as `require_real`."""
    images = images or require_real(config).outputs
    return RealShards(Folder.at(images.folder) / split, config.cache)


def pool_shards(config: Config, max_samples: int | None = None) -> PoolShards:
    """The run's synthetic samples, or the first `max_samples` of them; raises as `require_real`."""
    pool = require_pool(config).outputs
    size = pool.num_samples if max_samples is None else min(pool.num_samples, max_samples)
    return PoolShards(Folder.at(pool.folder), pool.feature_sets, size, config.cache)

"""What the stages `real` and `generate` left in the store, as their records describe it; plain
values that travel to workers, which open readers of their own.
"""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.config.root import Config
from pipeline.records.record import Record, require_record
from shards.cache import Cache
from shards.pool import PoolReader
from shards.reader import ShardReader
from shards.storage import Folder

REAL_REMEDY = "run `make real` again"
POOL_REMEDY = "run `make generate` again"
RECIPE_FILE = "recipe.json"
"""In each folder of the store: what its content was made of."""


@dataclass(frozen=True)
class RealShards:
    """Real images of one split."""

    folder: Folder
    cache: Cache

    def open(self) -> ShardReader:
        """A reader; raises UserError if shards are missing."""
        return ShardReader(self.folder, remedy=REAL_REMEDY, cache=self.cache)


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
            remedy=POOL_REMEDY,
            num_samples=self.num_samples,
            cache=self.cache,
        )


def real_shards(config: Config, split: str, record: Record | None = None) -> RealShards:
    """The run's real images of `split`.

    Raises:
        UserError: if the stage has not run under these settings.
    """
    record = record or require_record(config.run_dir / "real", "real", config.real)
    return RealShards(Folder.at(record.outputs["folder"]) / split, config.cache)


def pool_shards(config: Config, max_samples: int | None = None) -> PoolShards:
    """The run's synthetic samples, or the first `max_samples` of them; raises as `real_shards`."""
    record = require_record(config.run_dir / "generate", "generate", config.generate)
    size = record.outputs["num_samples"]
    return PoolShards(
        Folder.at(record.outputs["folder"]),
        tuple(record.outputs["feature_sets"]),
        size if max_samples is None else min(size, max_samples),
        config.cache,
    )

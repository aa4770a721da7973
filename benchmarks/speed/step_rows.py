"""The rows that one training step reads from the shards of `random_shards.py`.

Neighbours: `train_step.py` and `roofline.py` time the gathering alone, without views and networks.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.random_shards import Blocks, feature_set
from pipeline.config.train import TrainConfig
from pipeline.samples.seeding import numpy_generator
from pipeline.train.data import TrainingShards
from shards.pool import PoolReader
from shards.reader import ShardReader


def open_random_shards(folder: Path, blocks: Blocks) -> TrainingShards:
    """What `write_random_shards` wrote to `folder`, with all features."""
    return TrainingShards(
        real=ShardReader(folder / "real", remedy=""),
        synthetic=PoolReader(folder / "synthetic", [feature_set(blocks)], remedy=""),
        features=tuple(name for name, _ in blocks),
    )


@dataclass(frozen=True)
class StepArrays:
    """The rows of one step: images uint8 [n, 3, R, R], pooled features float16 [n_s, Σ C_l]."""

    synthetic: np.ndarray
    pooled: np.ndarray
    real: np.ndarray

    @property
    def arrays(self) -> tuple[np.ndarray, ...]:
        """All of them."""
        return self.synthetic, self.pooled, self.real


class StepReader:
    """Gathers as many random rows as a step of `config` takes, in the calling thread."""

    def __init__(self, shards: TrainingShards, config: TrainConfig) -> None:
        pool = shards.synthetic
        assert isinstance(pool, PoolReader)
        self._shards = shards
        self._pool = pool
        generator = numpy_generator(0, "benchmark/rows")
        self._synthetic = generator.integers(len(pool), size=config.num_synthetic)
        self._real = generator.integers(len(shards.real), size=config.num_real)

    def read(self) -> StepArrays:
        """As `BatchStream` does."""
        return StepArrays(
            synthetic=self._pool.images.gather("image", self._synthetic),
            pooled=self._pool.gather_features(self._shards.features, self._synthetic),
            real=self._shards.real.gather("image", self._real),
        )

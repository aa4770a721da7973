"""Synthetic and real shards -> the batch of a step, a pure function of (seed, step, rank).

Both domains have their own endless order; a step takes the next `num_synthetic` and `num_real`
samples of them. Rows are loaded ahead (`stream.py`), views are drawn on the device. Nothing here
has a state to save.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pipeline.backbone import Normalise
from pipeline.config import TrainConfig
from pipeline.order import Order
from pipeline.seeding import torch_generator
from pipeline.stream import LOADED_AHEAD, LoadedAhead, StepRows
from pipeline.train.augment import ViewParameters, draw_views, make_views
from pipeline.train.methods import Batch
from shards.errors import UserError
from shards.pool import PoolReader
from shards.reader import ShardReader


@dataclass(frozen=True)
class TrainingShards:
    """The two readers of a training: real images of the train split, and the pool's prefix."""

    real: ShardReader
    synthetic: PoolReader
    features: tuple[str, ...]
    """Names of the pool's features to distil."""

    def __post_init__(self) -> None:
        if len(set(self.features)) < len(self.features):
            raise UserError("train.features: a name is there twice")
        try:
            _ = self.block_channels
        except UserError as error:
            raise UserError(f"train.features: {error}") from None

    @property
    def block_channels(self) -> list[int]:
        """Channels of every feature to distil."""
        return [self.synthetic.num_channels(name) for name in self.features]

    def check_unchanged(self) -> None:
        """Raise `UserError` if the shards are no longer those that this was opened on."""
        self.real.check_unchanged()
        self.synthetic.check_unchanged()


@dataclass(frozen=True)
class _Arrays:
    """What a step reads: images uint8 [n, 3, R, R] and pooled features [n_s, Σ C_l]."""

    synthetic: np.ndarray
    pooled: np.ndarray
    real: np.ndarray


class BatchStream:
    """Batches of one worker, by step."""

    def __init__(
        self,
        shards: TrainingShards,
        config: TrainConfig,
        device: torch.device,
        *,
        rank: int,
        num_workers: int,
    ) -> None:
        self._shards = shards
        self._config = config
        self._device = device
        self._rank = rank

        def rows(reader: ShardReader, batch_size: int, purpose: str) -> StepRows:
            order = Order(reader.shard_sizes, config.seed, purpose, config.shuffle_samples)
            return StepRows(order, batch_size, rank, num_workers)

        self._real = rows(shards.real, config.num_real, "real")
        self._synthetic = rows(shards.synthetic.images, config.num_synthetic, "synthetic")
        self._normalise = Normalise(config.pixel_mean, config.pixel_std).to(device)
        # On a CPU the training itself has all cores: a thread beside it only disturbs.
        self._loaded = LoadedAhead(self._load, 0 if device.type == "cpu" else LOADED_AHEAD)

    def batch(self, step: int) -> Batch:
        """This worker's part of step `step` >= 0; quickest when steps come in order."""
        config = self._config
        arrays = self._loaded.get(step)
        generator = torch_generator(config.seed, "augment", step)
        real, synthetic = self._to_device(arrays.real), self._to_device(arrays.synthetic)
        return Batch(
            synthetic=self._view(synthetic, config.num_synthetic, generator),
            pooled=torch.from_numpy(arrays.pooled).to(self._device).float(),
            real_first=self._view(real, config.num_real, generator),
            real_second=self._view(real, config.num_real, generator),
        )

    def close(self) -> None:
        """Load no more."""
        self._loaded.close()

    def _load(self, step: int) -> _Arrays:
        """Runs in a thread."""
        shards = self._shards
        shards.real.prefetch(self._real.shards_ahead(step))
        for reader in shards.synthetic.readers:
            reader.prefetch(self._synthetic.shards_ahead(step))
        synthetic = self._synthetic.rows(step)
        return _Arrays(
            shards.synthetic.images.gather("image", synthetic),
            shards.synthetic.gather_features(shards.features, synthetic),
            shards.real.gather("image", self._real.rows(step)),
        )

    def _to_device(self, images: np.ndarray) -> Tensor:
        return torch.from_numpy(images).to(self._device).float() / 255

    def _view(self, images: Tensor, global_size: int, generator: torch.Generator) -> Tensor:
        views: ViewParameters = draw_views(self._config.augment, global_size, generator)
        start = self._rank * len(images)
        views = views.rows(start, start + len(images))
        normalised: Tensor = self._normalise(make_views(images, views))
        return normalised

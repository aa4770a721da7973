"""Synthetic and real shards -> the batch of a step, a pure function of (seed, step, rank).

Both domains have their own endless order (`order.py`); a step takes the next `num_synthetic` and
`num_real` samples of them, and worker *r* of W the *r*-th W-th of each. Nothing here has a state to
save.
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
from pipeline.train.augment import ViewParameters, draw_views, make_views
from pipeline.train.methods import Batch
from shards.reader import ShardReader


@dataclass(frozen=True)
class TrainingShards:
    """The two readers of a training: real images of the train split, and the pool's prefix."""

    real: ShardReader
    synthetic: ShardReader

    @property
    def block_channels(self) -> list[int]:
        """Channels of every block in the `features` column."""
        return [block.num_channels for block in self.synthetic.schema.features]


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
        if config.num_synthetic % num_workers or config.num_real % num_workers:
            raise ValueError("the workers must divide both parts of the global batch")
        self._shards = shards
        self._config = config
        self._device = device
        self._rank = rank
        self._num_workers = num_workers
        self._real_order = Order(len(shards.real), config.seed, "real")
        self._synthetic_order = Order(len(shards.synthetic), config.seed, "synthetic")
        self._normalise = Normalise(config.pixel_mean, config.pixel_std).to(device)

    def batch(self, step: int) -> Batch:
        """This worker's part of step `step` >= 0."""
        config = self._config
        generator = torch_generator(config.seed, "augment", step)
        synthetic_rows = self._part(
            self._synthetic_order.indices(step * config.num_synthetic, config.num_synthetic)
        )
        real_rows = self._part(self._real_order.indices(step * config.num_real, config.num_real))
        real = self._load(self._shards.real, real_rows)
        synthetic = self._load(self._shards.synthetic, synthetic_rows)
        pooled = torch.from_numpy(self._shards.synthetic.gather("features", synthetic_rows))
        return Batch(
            synthetic=self._view(synthetic, config.num_synthetic, generator),
            pooled=pooled.to(self._device).float(),
            real_first=self._view(real, config.num_real, generator),
            real_second=self._view(real, config.num_real, generator),
        )

    def _part(self, rows: np.ndarray) -> np.ndarray:
        size = len(rows) // self._num_workers
        return rows[self._rank * size : (self._rank + 1) * size]

    def _load(self, reader: ShardReader, rows: np.ndarray) -> Tensor:
        return torch.from_numpy(reader.gather("image", rows)).to(self._device).float() / 255

    def _view(self, images: Tensor, global_size: int, generator: torch.Generator) -> Tensor:
        views: ViewParameters = draw_views(self._config.augment, global_size, generator)
        start = self._rank * len(images)
        views = views.rows(start, start + len(images))
        normalised: Tensor = self._normalise(make_views(images, views))
        return normalised

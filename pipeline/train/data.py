"""Synthetic and real shards -> the batch of a step, a pure function of (seed, step, rank).

Both domains have their own endless order (`order.py`); a step takes the next `num_synthetic` and
`num_real` samples of them, and worker *r* of W the *r*-th W-th of each. Nothing here has a state to
save.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from pipeline.backbone import Normalise
from pipeline.config import TrainConfig
from pipeline.order import Order
from pipeline.seeding import torch_generator
from pipeline.teacher.description import W_FEATURE
from pipeline.train.augment import ViewParameters, draw_views, make_views
from pipeline.train.methods import Batch
from shards.errors import UserError
from shards.reader import ShardReader
from shards.schema import FeatureBlock


@dataclass(frozen=True)
class TrainingShards:
    """The two readers of a training: real images of the train split, and the pool's prefix."""

    real: ShardReader
    synthetic: ShardReader
    features: Literal["all"] | tuple[str, ...] = "all"
    """Names of stored features to distil, `w` among them if wanted; `all`: the whole column."""

    @property
    def block_channels(self) -> list[int]:
        """Channels of every feature to distil."""
        return [block.num_channels for block in self._selected()]

    def gather_features(self, rows: np.ndarray) -> np.ndarray:
        """Features of the synthetic samples `rows` [n], end to end, [n, Σ C_l] float16."""
        if self.features == "all":
            return self.synthetic.gather("features", rows)
        selected = self._selected()
        columns = {
            column: self.synthetic.gather(column, rows)
            for column in {_column(block) for block in selected}
        }
        parts = [
            columns[_column(block)][:, max(block.offset, 0) :][:, : block.num_channels]
            for block in selected
        ]
        return np.concatenate(parts, 1)

    def _selected(self) -> list[FeatureBlock]:
        schema = self.synthetic.schema
        if self.features == "all":
            return list(schema.features)
        known = {
            W_FEATURE: FeatureBlock(W_FEATURE, schema.column(W_FEATURE).shape[0], -1)
        }  # a column of its own
        known |= {block.name: block for block in schema.features}
        if len(set(self.features)) < len(self.features):
            raise UserError("train.features: a name is there twice")
        for name in self.features:
            if name not in known:
                raise UserError(
                    f"train.features: the pool has no {name!r}; it has {', '.join(known)}"
                )
        return [known[name] for name in self.features]


def _column(block: FeatureBlock) -> str:
    """Where a selected feature lies: `w` has a column of its own."""
    return W_FEATURE if block.offset < 0 else "features"


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
        pooled = torch.from_numpy(self._shards.gather_features(synthetic_rows))
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

"""Synthetic and real shards -> the batch of a step, a pure function of (seed, step, rank).

Both domains have their own endless order; a step takes the next `num_synthetic` and `num_real`
samples of them (samples rendered online simply follow one another). Rows are loaded ahead
(`stream.py`), views are drawn on the device. Nothing here has a state to save.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pipeline.augment import ViewParameters, draw_views, make_views
from pipeline.backbone import Normalise
from pipeline.gpu import on_host
from pipeline.order import Order
from pipeline.seeding import torch_generator
from pipeline.stream import LOADED_AHEAD, LoadedAhead, StepRows
from pipeline.train.method import Batch, Method
from pipeline.train.online import OnlineSamples
from pipeline.train_config import TrainConfig
from shards.errors import UserError
from shards.pool import PoolReader
from shards.reader import ShardReader


@dataclass(frozen=True)
class TrainingShards:
    """What a training reads: real images of the train split, and synthetic samples."""

    real: ShardReader
    synthetic: PoolReader | OnlineSamples | None
    """The pool's prefix, or a renderer; None for a training on real images alone."""
    features: tuple[str, ...] = ()
    """Names of the pool's features to read."""

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
        if isinstance(self.synthetic, PoolReader):
            return [self.synthetic.num_channels(name) for name in self.features]
        return [] if self.synthetic is None else self.synthetic.block_channels

    @property
    def synthetic_origins(self) -> list[str]:
        """Which synthetic samples of their recipe these are: the digest of the pool's bytes, or
        where samples are drawn; none for real images alone.
        """
        if isinstance(self.synthetic, PoolReader):
            return [self.synthetic.digest]
        return [] if self.synthetic is None else [self.synthetic.origin]

    @property
    def readers(self) -> list[ShardReader]:
        """Readers of all shards."""
        pool = self.synthetic.readers if isinstance(self.synthetic, PoolReader) else []
        return [self.real, *pool]

    def check_unchanged(self) -> None:
        """Raise `UserError` if the shards are no longer those that this was opened on."""
        for reader in self.readers:
            reader.check_unchanged()


@dataclass(frozen=True)
class _Rows:
    """What a step reads, on the CPU: images uint8 [n, 3, R, R] and pooled features [n_s, Σ C_l], of
    the domains in the batch.
    """

    synthetic: Tensor | None
    pooled: Tensor | None
    real: Tensor | None


class BatchStream:
    """Batches of one worker, by step, with as many views as the `method` wants."""

    def __init__(
        self,
        shards: TrainingShards,
        config: TrainConfig,
        method: type[Method],
        device: torch.device,
        *,
        rank: int,
        num_workers: int,
    ) -> None:
        self._shards = shards
        self._config = config
        self._method = method
        self._device = device
        self._rank = rank
        self._num_workers = num_workers

        def rows(reader: ShardReader, batch_size: int, purpose: str) -> StepRows | None:
            order = Order(reader.shard_sizes, config.seed, purpose, config.shuffle_samples)
            return StepRows(order, batch_size, rank, num_workers) if batch_size else None

        synthetic = shards.synthetic
        self._pool = pool = synthetic if isinstance(synthetic, PoolReader) else None
        self._online = synthetic if isinstance(synthetic, OnlineSamples) else None
        self._real = rows(shards.real, config.num_real, "real")
        self._synthetic = (
            None if pool is None else rows(pool.images, config.num_synthetic, "synthetic")
        )
        self._normalise = Normalise(config.pixel_mean, config.pixel_std).to(device)
        # On a CPU the training itself has all cores: a thread beside it only disturbs.
        self._loaded = LoadedAhead(self._load, 0 if device.type == "cpu" else LOADED_AHEAD)

    def batch(self, step: int) -> Batch:
        """This worker's part of step `step` >= 0; quickest when steps come in order."""
        config = self._config
        rows = self._loaded.get(step)
        synthetic, pooled = self._synthetic_samples(step, rows)
        generator = torch_generator(config.seed, "augment", step)
        is_shared = config.variant == "release"
        views = [
            *self._draw(
                synthetic, config.num_synthetic, self._method.synthetic_views, generator, is_shared
            ),
            *self._draw(
                self._on_device(rows.real), config.num_real, self._method.real_views, generator
            ),
        ]
        made = self._make([images for images, _ in views], [parameters for _, parameters in views])
        num_synthetic = 0 if synthetic is None else self._method.synthetic_views
        return Batch(made[:num_synthetic], made[num_synthetic:], pooled)

    @property
    def waited_s(self) -> float:
        """Seconds that steps have waited for their rows."""
        return self._loaded.waited_s

    def close(self) -> None:
        """Load no more."""
        self._loaded.close()

    def _load(self, step: int) -> _Rows:
        """Runs in a thread."""
        images = pooled = real = None
        if self._real is not None:
            self._shards.real.prefetch(self._real.shards_ahead(step))
        if self._pool is not None and self._synthetic is not None:
            for reader in self._pool.readers:
                reader.prefetch(self._synthetic.shards_ahead(step))
            rows = self._synthetic.rows(step)
            images = self._pool.images.gather("image", rows)
            if self._shards.features:
                pooled = self._pool.gather_features(self._shards.features, rows)
        if self._real is not None:
            real = self._shards.real.gather("image", self._real.rows(step))
        arrays = (images, pooled, real)
        return _Rows(*(None if a is None else on_host(a, self._device) for a in arrays))

    def _on_device(self, rows: Tensor | None) -> Tensor | None:
        return None if rows is None else rows.to(self._device, non_blocking=True)

    def _synthetic_samples(self, step: int, rows: _Rows) -> tuple[Tensor | None, Tensor | None]:
        """Images uint8 [n, 3, R, R] and pooled features float32 [n, Σ C_l] on the device."""
        if self._online is not None and self._config.num_synthetic:
            size = self._config.num_synthetic
            part = size // self._num_workers
            first = step * size + self._rank * part
            return self._online.render(np.arange(first, first + part))
        images, pooled = self._on_device(rows.synthetic), self._on_device(rows.pooled)
        return images, None if pooled is None else pooled.float()

    def _draw(
        self,
        images: Tensor | None,
        global_size: int,
        num_views: int,
        generator: torch.Generator,
        is_shared: bool = False,
    ) -> list[tuple[Tensor, ViewParameters | None]]:
        """This worker's `images` with the parameters of each view; `is_shared`: of one view for all
        of them.
        """
        if images is None:
            return []
        return [
            (images, self._draw_view(len(images), global_size, generator, is_shared))
            for _ in range(num_views)
        ]

    def _draw_view(
        self, size: int, global_size: int, generator: torch.Generator, is_shared: bool
    ) -> ViewParameters | None:
        config = self._config.augment
        if not config.enabled:
            return None
        views = draw_views(config, 1 if is_shared else global_size, generator)
        start = self._rank * size
        return views.repeated(size) if is_shared else views.rows(start, start + size)

    def _make(
        self, images: list[Tensor], parameters: list[ViewParameters | None]
    ) -> tuple[Tensor, ...]:
        """All views together: on a GPU, a call of anything costs more than its work."""
        pixels = torch.cat(images).float().div_(255)
        drawn = [p for p in parameters if p is not None]
        if drawn:
            pixels = make_views(pixels, ViewParameters.concatenate(drawn))
        views: tuple[Tensor, ...] = self._normalise(pixels).split([len(part) for part in images])
        return views

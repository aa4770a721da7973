"""Synthetic and real shards -> the batch of a step, a pure function of (seed, step, rank).

Both domains have their own endless order; a step takes the next `num_synthetic` and `num_real`
samples of them (samples rendered online simply follow one another). What a step needs is loaded and
drawn ahead (`samples/stream.py`) and uploaded at once (`engine/upload.py`); `columns.py` and
`resident.py` have the samples, `step_views.py` the views. Nothing here has a state to save.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pipeline.config.hardware import CompileMode
from pipeline.config.train import TrainConfig
from pipeline.engine.upload import Groups, prepare_upload
from pipeline.samples.order import Order
from pipeline.samples.stream import LOADED_AHEAD, LoadedAhead, StepRows
from pipeline.train.columns import Columns, Domain, StreamedColumns, pool_domain, real_domain
from pipeline.train.method import Batch, Method
from pipeline.train.online import OnlineSamples
from pipeline.train.resident import ResidentColumns, fits, load_progress
from pipeline.train.step_views import StepViews
from shards.errors import UserError
from shards.pool import PoolReader
from shards.reader import ShardReader


@dataclass(frozen=True)
class TrainingShards:
    """What a training reads: real images of the train split, and synthetic samples."""

    real: ShardReader
    synthetic: PoolReader | OnlineSamples | None
    """The pool's prefix, or a renderer; None for a training on real images alone."""
    view_size: int
    """Side of the views that are made of both, in pixels."""
    features: tuple[str, ...] = ()
    """Names of the pool's features to read."""

    def __post_init__(self) -> None:
        if len(set(self.features)) < len(self.features):
            raise UserError("train.features: duplicate name; name each feature once")
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


class BatchStream:
    """Batches of one worker, by step, with as many views as the `method` wants. Where columns are
    to lie on the device, they are loaded here.
    """

    def __init__(
        self,
        shards: TrainingShards,
        config: TrainConfig,
        method: type[Method],
        device: torch.device,
        *,
        rank: int,
        num_workers: int,
        compile_mode: CompileMode = "off",
    ) -> None:
        self._config = config
        self._device = device
        self._rank = rank
        self._num_workers = num_workers
        synthetic = shards.synthetic
        self._online = synthetic if isinstance(synthetic, OnlineSamples) else None
        domains: dict[str, Domain] = {}
        if isinstance(synthetic, PoolReader) and config.num_synthetic:
            domains["synthetic"] = pool_domain(synthetic, shards.features)
        if config.num_real:
            domains["real"] = real_domain(shards.real)
        self._columns = self._open(domains)
        self._views = StepViews(
            config,
            method,
            device,
            view_size=shards.view_size,
            rank=rank,
            num_workers=num_workers,
            compile_mode=compile_mode,
        )
        # On a CPU the training itself has all cores: a thread beside it only disturbs.
        self._loaded = LoadedAhead(self._load, 0 if device.type == "cpu" else LOADED_AHEAD)

    def batch(self, step: int) -> Batch:
        """This worker's part of step `step` >= 0; quickest when steps come in order."""
        drawn, *uploaded = self._loaded.get(step)()
        rows = {
            name: columns.take(part)
            for (name, columns), part in zip(self._columns.items(), uploaded, strict=True)
        }
        images, pooled = self._synthetic_samples(step, rows.get("synthetic", []))
        real, *_ = rows.get("real", [None])
        return Batch(*self._views.make(images, real, drawn), pooled)

    @property
    def waited_s(self) -> float:
        """Seconds that steps have waited for their rows and draws."""
        return self._loaded.waited_s

    def close(self) -> None:
        """Load no more."""
        self._loaded.close()

    def _open(self, domains: dict[str, Domain]) -> dict[str, Columns]:
        config = self._config
        sizes = {"synthetic": config.num_synthetic, "real": config.num_real}
        rows = {
            name: StepRows(
                Order(domain.readers[0].shard_sizes, config.seed, name, config.shuffle_samples),
                sizes[name],
                self._rank,
                self._num_workers,
            )
            for name, domain in domains.items()
        }
        if config.resident == "off" or not fits(domains.values(), self._device):
            return {name: StreamedColumns(domain, rows[name]) for name, domain in domains.items()}
        with load_progress(domains.values(), is_shown=self._rank == 0) as advance:
            return {
                name: ResidentColumns(domain, rows[name], self._device, advance)
                for name, domain in domains.items()
            }

    def _load(self, step: int) -> Callable[[], Groups]:
        """Runs in a thread."""
        columns = [columns.load(step) for columns in self._columns.values()]
        return prepare_upload([self._views.draw(step), *columns], self._device)

    def _synthetic_samples(
        self, step: int, rows: Sequence[Tensor]
    ) -> tuple[Tensor | None, Tensor | None]:
        """Images uint8 [n, 3, R, R] and pooled features float32 [n, Σ C_l] on the device."""
        if self._online is not None and self._config.num_synthetic:
            size = self._config.num_synthetic
            part = size // self._num_workers
            first = step * size + self._rank * part
            return self._online.render(np.arange(first, first + part))
        images, pooled = (*rows, None, None)[:2]
        return images, None if pooled is None else pooled.float()

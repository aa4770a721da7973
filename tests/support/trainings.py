"""Methods, batches and trainings on tiny shards."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from pipeline.config.train import TrainConfig
from pipeline.engine.launch import Report
from pipeline.train import loop
from pipeline.train.build import build_method, method_class
from pipeline.train.data import BatchStream, TrainingShards
from pipeline.train.loop import train
from pipeline.train.method import Batch, Method, MethodContext
from pipeline.train.monitor.shards import MonitoredReaders
from tests.support.tiny_shards import TRAIN_CONFIG, random_generator

CPU = torch.device("cpu")
STILL = {"augment": {"enabled": False}}
ENCODING = {"method": {"name": "encoding", "perceptual": "none"}, "features": ["w"], **STILL}
METHODS: dict[str, dict[str, Any]] = {
    "squeeze and span": {},
    "squeeze": {"images": "synthetic"},
    "vanilla": {
        "images": "synthetic",
        "method": {"squeeze": False, "variance_weight": 0, "covariance_weight": 0},
    },
    "vanilla, no augmentation": {"images": "synthetic", "method": {"squeeze": False}, **STILL},
    "release": {"variant": "release"},
    "vicreg both": {"method": {"name": "vicreg"}},
    "vicreg synthetic": {"method": {"name": "vicreg"}, "images": "synthetic"},
    "vicreg real": {"method": {"name": "vicreg"}, "images": "real"},
    "vicreg official": {"method": {"name": "vicreg", "convention": "official"}},
    "simsiam both": {"method": {"name": "simsiam"}},
    "simsiam real": {"method": {"name": "simsiam"}, "images": "real"},
    "encoding synthetic": {**ENCODING, "images": "synthetic"},
    "encoding both": ENCODING,
}
"""Settings of every way to train."""


def config_of(name: str) -> TrainConfig:
    """That of `METHODS`."""
    return changed(TRAIN_CONFIG, **METHODS[name])


def shards_of(config: TrainConfig, shards: TrainingShards) -> TrainingShards:
    """Of `shards`, what `config` reads."""
    features = config.features if config.features != "all" else shards.features
    if not config.method.reads_features:
        features = ()
    synthetic = shards.synthetic if config.reads_pool else None
    return replace(shards, synthetic=synthetic, features=features)


def make_method(config: TrainConfig, channels: Sequence[int] = ()) -> Method:
    """Fresh networks for features of these widths; the teacher is `random_generator()`."""
    return build_method(config, MethodContext(list(channels), random_generator))


def open_stream(
    shards: TrainingShards, config: TrainConfig, rank: int = 0, num_workers: int = 1
) -> BatchStream:
    method = method_class(config.method)
    return BatchStream(shards, config, method, CPU, rank=rank, num_workers=num_workers)


def run_training(
    config: TrainConfig,
    shards: TrainingShards,
    folder: Path,
    fingerprint: str,
    report: Report,
    monitored: MonitoredReaders | None = None,
) -> None:
    method = make_method(config, shards.block_channels)
    train(config, shards, method, folder, CPU, fingerprint, report, monitored=monitored)


def parts_of(batch: Batch) -> dict[str, Tensor]:
    """Every tensor of a batch, by name."""
    views = {"synthetic": batch.synthetic, "real": batch.real}
    parts = {f"{name} {k}": view for name, these in views.items() for k, view in enumerate(these)}
    return parts if batch.pooled is None else {**parts, "pooled": batch.pooled}


def in_double(batch: Batch) -> Batch:
    return replace(
        batch,
        synthetic=tuple(view.double() for view in batch.synthetic),
        real=tuple(view.double() for view in batch.real),
        pooled=None if batch.pooled is None else batch.pooled.double(),
    )


def changed(config: TrainConfig, **values: Any) -> TrainConfig:
    """`config` with other values, checked as a file's are."""
    return TrainConfig.model_validate({**config.model_dump(), **values})


@contextmanager
def interrupted_when_saved(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Within the block, a training gets Ctrl-C each time that it has saved its state."""
    save = loop.save_state

    def save_and_interrupt(path: Path, state: dict[str, Any]) -> None:
        save(path, state)
        os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "save_state", save_and_interrupt)
        yield


def pairs(count: int = 2, rows: int = 12, width: int = 6, seed: int = 0) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(
        torch.randn(rows, width, generator=generator, dtype=torch.float64) for _ in range(count)
    )

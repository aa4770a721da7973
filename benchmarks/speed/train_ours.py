"""Our training step at full size, set up as `pipeline/train/loop.py` does."""

from __future__ import annotations

from typing import Any, NoReturn

import torch

from pipeline.config.hardware import CompileMode
from pipeline.config.train import TrainConfig
from pipeline.train.build import build_method
from pipeline.train.data import BatchStream, TrainingShards
from pipeline.train.method import MethodContext
from pipeline.train.step import StudentTrainer


class TrainingStep:
    """Networks, optimiser and batches."""

    def __init__(
        self,
        config: TrainConfig,
        shards: TrainingShards,
        device: torch.device,
        mode: CompileMode = "off",
    ) -> None:
        self.config, self.shards, self.device, self.mode = config, shards, device, mode
        method = build_method(config, MethodContext(shards.block_channels, _no_generator))
        self.trainer = StudentTrainer(config, method, device, mode)
        self.method = self.trainer.method
        self.stream = BatchStream(
            shards, config, type(method), device, rank=0, num_workers=1, compile_mode=mode
        )
        self.index = 0

    @property
    def num_views(self) -> int:
        """Views per step, of both domains."""
        synthetic = self.method.synthetic_views * self.config.num_synthetic
        return synthetic + self.method.real_views * self.config.num_real

    def run(self) -> None:
        """One step, waiting for the GPU only where training does."""
        output = self.trainer.losses(self.stream.batch(self.index), self.index)
        self.trainer.update(output, self.index, epoch=0)
        self.index += 1


def _no_generator() -> NoReturn:
    raise ValueError("this benchmark has no teacher")


def changed(config: TrainConfig, **values: Any) -> TrainConfig:
    """`config` with other values, checked."""
    return TrainConfig.model_validate(config.model_dump() | values)

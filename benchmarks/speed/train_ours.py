"""Our training step, set up as `pipeline/train/loop.py` does, and the variants that are compared.

Neighbours: `train_step.py` times them, `train_rivals.py` has lightly's.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import torch

from benchmarks.measure import synchronise
from benchmarks.random_shards import Blocks
from benchmarks.speed.render import build_random_generator
from pipeline.config.root import Config
from pipeline.config.train import TrainConfig
from pipeline.engine.gpu import CompileMode
from pipeline.teacher.description import Sampling
from pipeline.teacher.training.step import build_architectures
from pipeline.train.build import build_method
from pipeline.train.data import BatchStream, TrainingShards
from pipeline.train.method import MethodContext
from pipeline.train.online import OnlineSamples
from pipeline.train.step import StudentTrainer

PARTS = ("batch", "forward", "backward", "optimiser")


@dataclass
class TrainingStep:
    """Networks, optimiser and batches at full size."""

    config: TrainConfig
    shards: TrainingShards
    device: torch.device

    compile_networks: CompileMode = "off"

    def __post_init__(self) -> None:
        context = MethodContext(self.shards.block_channels, _no_generator)
        method = build_method(self.config, context)
        self.trainer = StudentTrainer(self.config, method, self.device, self.compile_networks)
        self.method = self.trainer.method
        self.stream = BatchStream(
            self.shards,
            self.config,
            type(method),
            self.device,
            rank=0,
            num_workers=1,
            compile_mode=self.compile_networks,
        )
        self.index = 0

    @property
    def num_views(self) -> int:
        """Views per step, of both domains."""
        synthetic = self.method.synthetic_views * self.config.num_synthetic
        return synthetic + self.method.real_views * self.config.num_real

    def run(self) -> None:
        """One step, waiting for the GPU only where training does."""
        output = self.trainer.losses(self.stream.batch(self.index))
        self.trainer.update(output, self.index, epoch=0)
        self.index += 1

    def run_parts(self) -> dict[str, float]:
        """One step, waiting for the GPU after every part; returns the seconds of `PARTS`."""
        marks = [self._now()]
        batch = self.stream.batch(self.index)
        marks.append(self._now())
        output = self.trainer.losses(batch)
        marks.append(self._now())
        self.trainer.backward(output)
        marks.append(self._now())
        self.trainer.optimise(epoch=0)
        marks.append(self._now())
        self.index += 1
        return dict(zip(PARTS, np.diff(marks).tolist(), strict=True))

    def _now(self) -> float:
        synchronise(self.device)
        return time.perf_counter()


def _no_generator() -> NoReturn:
    raise ValueError("this benchmark has no teacher")


def changed(config: TrainConfig, **values: Any) -> TrainConfig:
    """`config` with other values, checked."""
    return TrainConfig.model_validate(config.model_dump() | values)


def vicreg_config(config: TrainConfig) -> TrainConfig:
    """VICReg on two views of every real image, with the objective of its authors, as lightly's."""
    method = {"name": "vicreg", "convention": "official"}
    return changed(config, method=method, images="real")


def render_online(config: Config, blocks: Blocks, device: torch.device) -> OnlineSamples:
    """Samples of a teacher of `config`'s sizes with random weights, with the features `blocks`."""
    arch, _ = build_architectures(config.teacher, config.real.resolution)
    generator = build_random_generator(arch, device)
    sampling = Sampling(seed=0, noise="random", truncation_psi=1.0, truncation_cutoff=None)
    return OnlineSamples(generator, sampling, blocks, config.generate.render_batch)

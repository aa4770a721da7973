"""Training a teacher to the end: batches in, state, metrics, grids, snapshots and the teacher out.

Runs on every worker; rank 0 writes. Neighbours: `step.py` does the steps, `teacher/quality.py`
measures how far the images are from the real ones, `teacher/stage.py` starts it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.config.teacher import TeacherConfig
from pipeline.engine.collectives import num_workers, worker_rank
from pipeline.engine.gpu import on_host
from pipeline.engine.launch import Report
from pipeline.engine.metrics import MetricsLog
from pipeline.engine.state import load_state, save_state
from pipeline.measures.distances import Moments, frechet_distance, kernel_distance
from pipeline.samples.order import Order
from pipeline.samples.seeding import numpy_generator, torch_generator
from pipeline.samples.stream import LOADED_AHEAD, LoadedAhead, StepRows
from pipeline.teacher.checkpoint import save_teacher
from pipeline.teacher.description import SNAPSHOTS, STATE_FILE
from pipeline.teacher.networks.stylegan2 import Generator
from pipeline.teacher.quality import build_feature_space
from pipeline.teacher.sample_grid import save_samples
from pipeline.teacher.training.step import TeacherTrainer
from pipeline.terminal.interrupt import Interrupted, deferred_interrupts
from pipeline.terminal.progress import console

METRICS_FILE = "metrics.jsonl"
STATE_INTERVAL_S = 30.0
GRID_IMAGES = 20_000
_LOG_STEPS = {"cpu": 10, "cuda": 100}
"""Steps between two lines of metrics: each waits for the device."""
QUALITY_BATCH = 100
GatherImages = Callable[[np.ndarray], np.ndarray]


def train_teacher(
    trainer: TeacherTrainer,
    gather: GatherImages,
    num_real: int,
    folder: Path,
    fingerprint: str,
    report: Report,
    origin: dict[str, Any],
) -> None:
    """Train to `config.num_images`, going on from `folder`'s state, and leave the teacher there.

    Args:
        trainer: fresh; on every worker.
        gather: maps indices [n] of the `num_real` samples to uint8 images [n, 3, R, R].
        folder: shared by the workers; gets state, metrics, grids, snapshots, the teacher.
        fingerprint: a state with another one is refused.
        report: called with (images seen, metrics) after each logged step; where it says so, the
            next one is saved, as by a signal.
        origin: what `teacher.json` says of how the teacher came to be.

    Raises:
        Interrupted: by a signal, after the step at hand was saved, and the teacher as it is.
        UserError: if a loss is not finite.
    """
    config = trainer.config
    state = load_state(folder / STATE_FILE, trainer.device, fingerprint)
    if state is not None:
        trainer.load_state_dict(state)
    is_first = worker_rank() == 0
    keeper = _Keeper(trainer, gather, num_real, folder, fingerprint, origin) if is_first else None
    device, order = trainer.device, Order([num_real], config.seed, "teacher")
    rows = StepRows(order, config.global_batch, worker_rank(), num_workers())
    loaded = LoadedAhead(
        lambda step: on_host(gather(rows.rows(step)), device),
        0 if device.type == "cpu" else LOADED_AHEAD,
    )
    is_asked = False
    with deferred_interrupts() as is_interrupted, closing(loaded):
        while trainer.images_seen < config.num_images:
            real = loaded.get(trainer.images_seen // config.global_batch)
            metrics = trainer.step(_as_images(real.to(device, non_blocking=True)))
            is_last = trainer.images_seen >= config.num_images
            is_stopping, measured = is_interrupted(), {}
            if keeper is not None:
                measured = keeper.keep(metrics, is_last, is_stopping or is_asked)
            is_asked = False
            if is_last or trainer.images_seen // config.global_batch % log_interval(device) == 0:
                is_asked = report(trainer.images_seen, _as_numbers({**metrics, **measured}))
            if is_stopping:
                raise Interrupted
    if keeper is not None:
        keeper.finish()


def log_interval(device: torch.device) -> int:
    """Steps between two lines of metrics of a training on `device`."""
    return _LOG_STEPS.get(device.type, _LOG_STEPS["cpu"])


def _as_images(pixels: Tensor) -> Tensor:
    """uint8 [B, C, R, R] -> float32 in [-1, 1], channels-last."""
    images = pixels.float() / 127.5 - 1
    return images.contiguous(memory_format=torch.channels_last)


def _as_numbers(metrics: Mapping[str, Tensor | float]) -> dict[str, float]:
    """Waits for the device."""
    return {name: float(value) for name, value in metrics.items()}


@dataclass
class Quality:
    """Distances of a generator's images to the real ones, in a named feature space."""

    config: TeacherConfig
    gather: GatherImages
    num_real: int
    device: torch.device

    def __post_init__(self) -> None:
        self._space = build_feature_space(self.config.inception_weights, self.device)
        count = min(self.num_real, self.config.quality_images)
        rows = numpy_generator(0, "teacher/quality").permutation(self.num_real)[:count]
        self._real = self._extract(
            torch.from_numpy(self.gather(rows[first : first + QUALITY_BATCH]))
            for first in range(0, count, QUALITY_BATCH)
        )
        self._real_moments = Moments.from_features(self._real)

    @torch.no_grad()
    def measure(self, generator: Generator) -> dict[str, Any]:
        """`frechet_distance`, `kernel_distance` (random noise), name of the `feature_space`."""
        found = self._extract(self._render(generator))
        distance = frechet_distance(self._real_moments, Moments.from_features(found))
        return {
            "frechet_distance": distance,
            "kernel_distance": kernel_distance(self._real, found),
            "feature_space": self._space.name,
        }

    def _render(self, generator: Generator) -> Any:
        draws = torch_generator(0, "teacher/quality")
        for first in range(0, self.config.quality_images, QUALITY_BATCH):
            batch = min(QUALITY_BATCH, self.config.quality_images - first)
            z = torch.randn(batch, generator.arch.z_dim, generator=draws).to(self.device)
            noise = [
                torch.randn(batch, 1, r, r, generator=draws).to(self.device)
                for r in generator.noise_resolutions
            ]
            image = generator(z, noise).image.clamp(-1, 1)
            yield (image * 127.5 + 127.5).round().to(torch.uint8)

    def _extract(self, batches: Any) -> Tensor:
        return torch.cat([self._space(batch.to(self.device)) for batch in batches])


class _Keeper:
    """Rank 0's part: metrics, states, grids, snapshots and quality, each when it is due."""

    def __init__(
        self,
        trainer: TeacherTrainer,
        gather: GatherImages,
        num_real: int,
        folder: Path,
        fingerprint: str,
        origin: dict[str, Any],
    ) -> None:
        self._trainer = trainer
        self._folder = folder
        self._fingerprint = fingerprint
        self._origin = origin
        self._log = MetricsLog(folder / METRICS_FILE, "images_seen", trainer.images_seen)
        self._saved_at = time.monotonic()
        self._measured: dict[str, Any] = {}
        has_quality = trainer.config.quality_images > 0
        self._quality = (
            Quality(trainer.config, gather, num_real, trainer.device) if has_quality else None
        )
        if trainer.images_seen:
            console.print(f"teacher   resumed at {trainer.images_seen:,} images")

    def keep(
        self, metrics: Mapping[str, Tensor | float], is_last: bool, is_asked: bool
    ) -> dict[str, float]:
        """Do what is due after a step; returns what was measured, for the progress line."""
        trainer, seen = self._trainer, self._trainer.images_seen
        self._measured = measured = {}
        snapshots = [n for n in trainer.config.snapshot_images if self._passes(n)]
        is_due = seen % trainer.config.quality_interval < trainer.config.global_batch
        if self._quality is not None and (is_last or snapshots or is_due):
            self._measured = measured = self._quality.measure(trainer.generator_ema)
        for count in snapshots:
            self._save_teacher(self._folder / SNAPSHOTS / f"{count:09d}", measured)
        if is_last or seen % GRID_IMAGES < trainer.config.global_batch:
            save_samples(trainer.generator_ema, self._folder / f"samples-{seen:09d}.png")
        numbers = {name: value for name, value in measured.items() if name != "feature_space"}
        interval = log_interval(trainer.device)
        if is_last or measured or seen // trainer.config.global_batch % interval == 0:
            self._log.write(seen, _as_numbers({**metrics, **numbers}))
        if is_last or is_asked or time.monotonic() - self._saved_at > STATE_INTERVAL_S:
            state = {"fingerprint": self._fingerprint, **trainer.state_dict()}
            save_state(self._folder / STATE_FILE, state)
            self._saved_at = time.monotonic()
        if is_asked:
            self._save_teacher(self._folder, measured)
            console.print(
                f"teacher   as it is at {seen:,} images: teacher.checkpoint={self._folder}",
                soft_wrap=True,
            )
        return numbers

    def finish(self) -> None:
        """Leave the teacher itself."""
        generator = self._trainer.generator_ema
        if self._quality is not None and not self._measured:  # resumed after the last step
            self._measured = self._quality.measure(generator)
        self._save_teacher(self._folder, self._measured)
        save_samples(generator, self._folder / "samples.png")

    def _passes(self, count: int) -> bool:
        seen = self._trainer.images_seen
        return seen - self._trainer.config.global_batch < count <= seen

    def _save_teacher(self, folder: Path, measured: dict[str, Any]) -> None:
        trainer = self._trainer
        origin = {**self._origin, "images_seen": trainer.images_seen, "quality": measured}
        save_teacher(folder, trainer.generator_ema, trainer.discriminator, origin)

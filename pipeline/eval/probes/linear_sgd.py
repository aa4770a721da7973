"""The paper's linear probe: a linear layer trained by SGD on random views of the labelled images,
through the frozen backbone (Yang et al. 2022, appendix; the protocol of Chen and He 2021).

The clock counts `images_seen`. A checkpoint holds the layer, its momentum, the clock and the top-1
so far, order and views are functions of the clock and the seed, so a probe that was killed ends as
one that was not; the checkpoint after the last epoch is its result. On a GPU nothing waits for the
device but the top-1 after every epoch and what is saved. Neighbours: `linear_head.py` has the layer
and the settings, `labelled_views.py` the batches, `sgd_training.py` finds a process to run it in;
`linear_probe.py` fits a linear classifier to representations without views.
"""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.config.train import TrainConfig
from pipeline.engine.launch import Report
from pipeline.engine.metrics import MetricsLog
from pipeline.engine.state import load_state, save_state
from pipeline.eval.probes.labelled_views import LabelledViews, ProbeImages
from pipeline.eval.probes.linear_head import LinearHead, ProbeSettings, learning_rate
from pipeline.student.backbone import Normalise
from pipeline.terminal.interrupt import Interrupted, deferred_interrupts
from pipeline.terminal.progress import console
from shards.errors import UserError

CHECKPOINT_FILE = "checkpoint.pt"
METRICS_FILE = "metrics.jsonl"
CLOCK = "images_seen"
_IMAGES_AT_ONCE = 512  # through the backbone, which bounds its memory in a batch of thousands
_LOG_S = 5.0
"""Between two lines of metrics within an epoch; after every epoch there is one."""


@dataclass(frozen=True)
class ProbeCurve:
    """What a probe has reached."""

    top1: tuple[float, ...]
    """Of the test images after every epoch, in percent."""
    predictions: np.ndarray
    """[M] int64: labels of the test images as predicted after the last epoch."""
    protocol: str
    """How it was trained, all that is needed to do it again but the seed."""

    @property
    def last(self) -> float:
        """The result."""
        return self.top1[-1]


def read_curve(folder: Path, fingerprint: str) -> ProbeCurve | None:
    """That of the probe which `train_linear_probe` finished in `folder`, None if it has not.

    Raises:
        UserError: as `load_state`.
    """
    state = load_state(folder / CHECKPOINT_FILE, torch.device("cpu"), fingerprint)
    return _curve(state) if state is not None and state["is_complete"] else None


def train_linear_probe(
    backbone: nn.Module,
    images: ProbeImages,
    config: TrainConfig,
    settings: ProbeSettings,
    device: torch.device,
    folder: Path,
    fingerprint: str,
    report: Report,
) -> ProbeCurve:
    """Train a linear layer on views of `images` as `backbone` represents them, going on from
    `folder`'s checkpoint; one that was begun in another precision, as on other hardware, is left.

    Args:
        backbone: normalised images [B, 3, R, R] -> representation [B, D]. It is moved to `device`
            and put into evaluation mode, but not trained.
        images: to train on and to test on; the classes are the labels of the train images.
        config: of the backbone's training; says how images are normalised, and how often to save
            within an epoch.
        settings: of the probe.
        device: to compute on.
        folder: gets checkpoint and metrics.
        fingerprint: a checkpoint with another one is refused.
        report: called with (images seen, metrics) after every step; there are metrics after each
            epoch, and every few seconds within one. The step is saved where it says so.

    Raises:
        Interrupted: by a signal, after the step at hand was saved.
        UserError: if representations are not finite, or the checkpoint cannot be gone on from.
    """
    state = load_state(folder / CHECKPOINT_FILE, device, fingerprint)
    if state is not None and state["protocol"] != settings.protocol:
        state = None
    if state is not None and state["is_complete"]:
        return _curve(state)
    classes, targets = np.unique(images.train_labels, return_inverse=True)
    images = replace(images, train_labels=targets)
    probe = _Probe(backbone, images, classes, config, settings, device)
    progress = _Progress(folder, fingerprint, settings.protocol, config.checkpoint_interval_s)
    progress.resume(state, probe.head)
    views = LabelledViews(
        images, settings.batch, settings.augment, seed=settings.seed, device=device
    )
    num_steps = settings.epochs * views.num_steps
    with deferred_interrupts() as is_interrupted, closing(views):
        for step in range(progress.step, num_steps):
            epoch, within = divmod(step, views.num_steps)
            rate = learning_rate(settings, epoch)
            probe.step(*views.batch(step), rate)
            seen = min((within + 1) * settings.batch, views.num_images)
            progress.step, progress.images_seen = step + 1, epoch * views.num_images + seen
            is_end = within + 1 == views.num_steps
            if is_end:
                progress.top1.append(probe.test())
            metrics = progress.log(rate, is_end)
            is_asked = report(progress.images_seen, metrics)
            if is_end or is_asked or progress.is_save_due() or is_interrupted():
                progress.save(probe, is_complete=step + 1 == num_steps)
            if is_interrupted():
                raise Interrupted
    return ProbeCurve(tuple(progress.top1), probe.predictions.cpu().numpy(), settings.protocol)


class _Probe:
    """The frozen backbone, the layer on it, and the test images as the backbone represents them."""

    def __init__(
        self,
        backbone: nn.Module,
        images: ProbeImages,
        classes: np.ndarray,
        config: TrainConfig,
        settings: ProbeSettings,
        device: torch.device,
    ) -> None:
        self._frozen = _Frozen(backbone, config, settings.precision, device)
        self._labels = torch.from_numpy(classes).to(device)
        self._wanted = torch.from_numpy(images.test_labels).to(device)
        self._test = torch.cat([self._frozen(part) for part in images.test_batches(device)])
        _check_finite(self._test)
        num_features = self._test.shape[1]
        self.head = LinearHead(num_features, len(classes), settings.optimizer, seed=settings.seed)
        self.head.layer.to(device)

    @property
    def predictions(self) -> Tensor:
        """[M] int64: labels of the test images."""
        return self._labels[self.head.classify(self._test)]

    def step(self, views: Tensor, classes: Tensor, rate: float) -> None:
        """One of `LinearHead.update`."""
        self.head.update(self._frozen(views), classes, rate)

    def test(self) -> float:
        """Top-1 of the test images, in percent."""
        _check_finite(self.head.layer.weight)
        return 100 * float((self.predictions == self._wanted).double().mean())


class _Progress:
    """How far the probe is, and what is left of that in its folder."""

    def __init__(self, folder: Path, fingerprint: str, protocol: str, interval_s: float) -> None:
        self._folder = folder
        self._fixed = {"fingerprint": fingerprint, "protocol": protocol}
        self._interval_s = interval_s
        self._saved_at = self._logged_at = time.monotonic()
        self.step = self.images_seen = 0
        self.top1: list[float] = []

    def resume(self, state: dict[str, Any] | None, head: LinearHead) -> None:
        """Go on from the checkpoint `state`, or begin."""
        if state is not None:
            self.step, self.images_seen = int(state["step"]), int(state[CLOCK])
            self.top1 = list(state["top1"])
            head.load_state_dict(state["head"])
            console.print(f"linear_sgd resumed at {self.images_seen:,} images")
        self._log = MetricsLog(self._folder / METRICS_FILE, CLOCK, self.images_seen)

    def log(self, rate: float, is_end: bool) -> dict[str, float]:
        """Metrics of the last step, empty if they are not due."""
        now = time.monotonic()
        if not is_end and now - self._logged_at < _LOG_S:
            return {}
        self._logged_at = now
        metrics = {"top1": self.top1[-1]} if is_end else {}
        metrics["learning_rate"] = rate
        self._log.write(self.images_seen, metrics)
        return metrics

    def is_save_due(self) -> bool:
        """Whether the last checkpoint is old."""
        return time.monotonic() - self._saved_at > self._interval_s

    def save(self, probe: _Probe, *, is_complete: bool) -> None:
        """A checkpoint; the last one has the predictions."""
        state = {
            **self._fixed,
            "step": self.step,
            CLOCK: self.images_seen,
            "top1": self.top1,
            "head": probe.head.state_dict(),
            "is_complete": is_complete,
            "predictions": probe.predictions if is_complete else None,
        }
        save_state(self._folder / CHECKPOINT_FILE, state)
        self._saved_at = time.monotonic()


class _Frozen:
    """Images [B, 3, R, R], uint8 or in [0, 1], -> representation [B, D] float32."""

    def __init__(
        self,
        backbone: nn.Module,
        config: TrainConfig,
        precision: torch.dtype,
        device: torch.device,
    ) -> None:
        self._backbone = backbone.eval().to(device)
        self._normalise = Normalise(config.pixel_mean, config.pixel_std).to(device)
        self._precision = precision
        self._device = device

    @torch.no_grad()  # not inference mode, whose tensors the linear layer could not learn from
    def __call__(self, images: Tensor) -> Tensor:
        parts = [self._normalise(part) for part in images.split(_IMAGES_AT_ONCE)]
        is_mixed = self._precision != torch.float32
        with torch.autocast(self._device.type, self._precision, enabled=is_mixed):
            return torch.cat([self._backbone(part) for part in parts]).float()


def _curve(state: dict[str, Any]) -> ProbeCurve:
    """That of a complete checkpoint."""
    return ProbeCurve(tuple(state["top1"]), state["predictions"].cpu().numpy(), state["protocol"])


def _check_finite(values: Tensor) -> None:
    if not values.isfinite().all():
        raise UserError(
            "train: the student's representations are not finite; train it again with a lower "
            "train.learning_rate"
        )

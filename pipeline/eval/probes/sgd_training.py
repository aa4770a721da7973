"""The paper's probe as a training of one worker, in this process or on Ray: `run_sgd_probe`.

What the worker needs travels as plain values, what it finds comes back in the probe's folder.
Neighbours: `linear_sgd.py` trains, `engine/launch.py` starts the worker, `eval/stage.py` asks.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from pipeline.config.root import Config
from pipeline.config.train import TrainConfig
from pipeline.engine.gpu import choose_precision
from pipeline.engine.launch import Report, Training, run_training
from pipeline.eval.probes.labelled_views import ProbeImages
from pipeline.eval.probes.linear_head import LARGE_BATCH, ProbeSettings, describe_views
from pipeline.eval.probes.linear_sgd import (
    CHECKPOINT_FILE,
    CLOCK,
    read_curve,
    train_linear_probe,
)
from pipeline.eval.probes.probe import ALL, Score
from pipeline.records.record import begin
from pipeline.records.spec import Spec
from pipeline.results.ledger import Measurement
from pipeline.student.representations import weights_digest
from shards.errors import UserError

PROBE = "linear_sgd"


@dataclass(frozen=True)
class SgdProbe:
    """What a worker is told."""

    backbone: nn.Module
    images: ProbeImages
    config: TrainConfig
    settings: ProbeSettings
    folder: Path
    spec: Spec


def run_sgd_probe(
    name: str, backbone: nn.Module, images: ProbeImages, config: Config, folder: Path
) -> Score:
    """The paper's probe of the representation `name`, which `backbone` makes, on all labels: that
    which is finished in `folder`, which the worker must see, or else trained there to the end, with
    a progress bar.

    Raises:
        UserError: if `folder` has begun another one, naming what differs.
    """
    recipe = ProbeSettings() if config.eval.sgd_recipe == "cifar" else LARGE_BATCH
    seed = config.eval.seeds[0]
    settings = replace(recipe, epochs=config.eval.sgd_epochs, seed=seed)
    folder, train = folder.resolve(), config.train
    spec = _spec(backbone, images, train, settings)
    probe = SgdProbe(backbone.cpu(), images, train, settings, folder, spec)
    begin(folder, spec, CHECKPOINT_FILE)
    curve = read_curve(folder, spec.fingerprint)
    if curve is None:
        run_training(_training(name, probe, config), config.ray, config.hardware.device)
        curve = read_curve(folder, spec.fingerprint)
        assert curve is not None
    top1 = Measurement(
        metric="top1",
        value=curve.last,
        probe=PROBE,
        labels=ALL,
        seed=seed,
        representation=name,
        protocol=curve.protocol,
    )
    return Score(top1, curve.predictions, curve.top1)


def _spec(
    backbone: nn.Module, images: ProbeImages, train: TrainConfig, settings: ProbeSettings
) -> Spec:
    """What determines the result."""
    config = {
        "epochs": settings.epochs,
        "batch": settings.batch,
        "learning_rate": settings.learning_rate,
        "optimizer": settings.optimizer,
        "views": describe_views(settings.augment),
        "view_size": images.view_size,
        "seed": settings.seed,
        "precision": train.precision,
        "pixel_mean": list(train.pixel_mean),
        "pixel_std": list(train.pixel_std),
    }
    arrays = {
        "train rows": images.train_rows,
        "train labels": images.train_labels,
        "test rows": images.test_rows,
        "test labels": images.test_labels,
    }
    inputs = {name: _array_digest(array) for name, array in arrays.items()}
    return Spec(PROBE, config, {"backbone": weights_digest(backbone), **_shards(images), **inputs})


def _shards(images: ProbeImages) -> dict[str, str]:
    """Digests of what is read."""
    return {"train shards": images.train.digest, "test shards": images.test.digest}


def _array_digest(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array, np.int64).tobytes()).hexdigest()


def _training(name: str, probe: SgdProbe, config: Config) -> Training[SgdProbe]:
    return Training(
        name=f"  {PROBE}",
        function=_train_worker,
        settings=probe,
        folder=probe.folder,
        clock=CLOCK,
        total=probe.settings.epochs * len(probe.images.train_rows),
        unit="images",
        note=_Note(name),
        run_name=f"{config.name}-{PROBE}-{name}-{probe.spec.fingerprint[:8]}",
        work="eval",
    )


class _Note:
    """The live view: what is probed, and the last known top-1."""

    def __init__(self, name: str) -> None:
        self._text = name

    def __call__(self, metrics: dict[str, float]) -> str:
        if "top1" in metrics:
            self._text = f"{self._text.split()[0]} top-1 {metrics['top1']:.1f}"
        return self._text


def _train_worker(probe: SgdProbe, device: Any, report: Report) -> None:
    """The worker: `train_linear_probe` on its own readers, in the precision of its device."""
    images = probe.images
    for name, digest in _shards(images).items():
        if digest != probe.spec.inputs[name]:
            raise UserError(f"{PROBE}: {name} have changed since this began; start again")
    precision = choose_precision(probe.config.precision, device)
    train_linear_probe(
        probe.backbone,
        images,
        probe.config,
        replace(probe.settings, precision=precision),
        device,
        probe.folder,
        probe.spec.fingerprint,
        report,
    )

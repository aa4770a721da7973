"""Fine-tuning and its test as a training of one worker, in this process or on Ray: `fine_tune`.

What the worker needs travels as plain values, the scores come back in a file. Neighbours: `loop.py`
trains and tests, `engine/launch.py` starts the worker, `stage.py` asks.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from pipeline.config.finetune import FinetuneConfig
from pipeline.config.root import Config
from pipeline.config.train import TrainConfig
from pipeline.engine.launch import Report, Training, run_training
from pipeline.eval.dense.layouts import data_root, list_files
from pipeline.records.products import student_file
from pipeline.records.record import begin
from pipeline.records.spec import Spec
from shards.atomic import write_atomic

SCORES_FILE = "scores.json"
MAIN_SCORE = {"detection": "AP", "segmentation": "mean_iou", "normals": "mean_deg"}


@dataclass(frozen=True)
class Scores:
    """What a test has found."""

    fingerprint: str
    """Of the fine-tuning."""
    device: str
    """On which it ran."""
    metrics: dict[str, float]


@dataclass(frozen=True)
class FineTuning:
    """What a worker is told."""

    config: FinetuneConfig
    train: TrainConfig
    """Of the student."""
    student: Path
    folder: Path
    fingerprint: str


def fine_tune(config: Config, folder: Path, spec: Spec) -> Scores:
    """Train and test in `folder`, which the worker must see, with a progress bar; what is done
    there is not done again.

    Raises:
        UserError: if `folder` has begun another one, naming what differs.
    """
    from pipeline.eval.dense.loop import CHECKPOINT_FILE

    begin(folder, spec, CHECKPOINT_FILE)
    scores = _read_scores(folder, spec.fingerprint)
    if scores is None:
        run_training(_training(config, folder, spec), config.ray, config.hardware.device)
        scores = _read_scores(folder, spec.fingerprint)
        assert scores is not None
    return scores


def _read_scores(folder: Path, fingerprint: str) -> Scores | None:
    """Those that the worker has left; None if there are none, or others."""
    try:
        content = (folder / SCORES_FILE).read_bytes()
        scores = TypeAdapter(Scores).validate_json(content)
    except (FileNotFoundError, ValidationError):
        return None
    return scores if scores.fingerprint == fingerprint else None


def _training(config: Config, folder: Path, spec: Spec) -> Training[FineTuning]:
    root = data_root(config.finetune).absolute()
    section = config.finetune.model_copy(update={"root": root})
    folder, student = folder.resolve(), student_file(config).resolve()
    num_test = len(list_files(section, "test"))
    return Training(
        name="finetune",
        function=_train_worker,
        settings=FineTuning(section, config.train, student, folder, spec.fingerprint),
        folder=folder,
        clock="samples_seen",
        total=section.steps * section.batch + num_test,
        unit="images",
        note=lambda metrics: _note(section, metrics),
        run_name=f"{config.name}-{section.task}-{spec.fingerprint[:8]}",
        work="eval",
    )


def _note(config: FinetuneConfig, metrics: dict[str, float]) -> str:
    """The live view: the loss, how far the test is, or the score."""
    if "num_tested" in metrics:
        return f"{metrics['num_tested']:,.0f} tested"
    name = MAIN_SCORE[config.task]
    return f"{name} {metrics[name]:.4g}" if name in metrics else f"loss {metrics['loss']:.3g}"


def _train_worker(told: FineTuning, device: Any, report: Report) -> None:
    """The worker: training, test, and the file of scores."""
    from pipeline.eval.dense.loop import test, train

    config, folder = told.config, told.folder
    task = _build_task(told, device)
    train(task, config, folder, device, told.fingerprint, report)
    metrics = test(task, config, folder, len(list_files(config, "test")), report)
    scores = Scores(told.fingerprint, device.type, metrics)
    write_atomic(folder / SCORES_FILE, json.dumps(asdict(scores), indent=2) + "\n")


def _build_task(told: FineTuning, device: Any) -> Any:
    from pipeline.eval.dense.detection import DetectionTask
    from pipeline.eval.dense.feature_maps import freeze
    from pipeline.eval.dense.pixelwise import NormalsTask, SegmentationTask
    from pipeline.student.backbone import StudentResNet, load_backbone

    config, train = told.config, told.train
    backbone = load_backbone(train.student, told.student)
    assert isinstance(backbone, StudentResNet)
    freeze(backbone, config.frozen)
    tasks = {"detection": DetectionTask, "segmentation": SegmentationTask, "normals": NormalsTask}
    return tasks[config.task](config, backbone, train.pixel_mean, train.pixel_std, device)

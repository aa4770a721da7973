"""`python -m pipeline finetune CONFIG`: student -> results of a dense task, in its own folder."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from pipeline.config.root import Config
from pipeline.engine.launch import is_torchrun
from pipeline.eval.dense.layouts import SPLITS, data_root, list_files
from pipeline.eval.dense.protocols import describe_protocol
from pipeline.records.digests import file_digest, files_digest
from pipeline.records.products import Files, is_intact, require_student, student_file
from pipeline.records.record import Record, find_complete, write_record
from pipeline.records.spec import Spec
from pipeline.results.ledger import Benchmark, Measurement, Number, append, is_appended
from pipeline.results.lineage import read_lineage
from pipeline.terminal.progress import progress_bar
from shards.atomic import write_atomic
from shards.errors import UserError

RESULTS_FILE = "results.json"
_DATASETS = {"detection": "voc", "segmentation": "ade20k", "normals": "nyuv2"}
_MAIN_SCORE = {"detection": "AP", "segmentation": "mean_iou", "normals": "mean_deg"}


def find(config: Config) -> Record[Files] | None:
    """Record of this task's fine-tuning, None if it, its results or their numbers are missing."""
    spec = _spec(config)
    record = _find_results(config, spec)
    return record if is_appended(config.paths.runs, config.name, spec.fingerprint) else None


def _find_results(config: Config, spec: Spec) -> Record[Files] | None:
    """Record of results that are there, in the ledger or not."""
    folder = config.run_dir / folder_name(config)
    record = find_complete(folder, spec, Files)
    if record is None or not is_intact(folder / RESULTS_FILE, record.outputs.get(RESULTS_FILE)):
        return None
    return record


def run(config: Config) -> None:
    """Fine-tune, or go on where an interrupted one stopped, and test; `results.json` comes last."""
    if is_torchrun():
        raise UserError("finetune: runs in one process; start it without torchrun")
    spec = _spec(config)
    folder = config.run_dir / folder_name(config)
    folder.mkdir(parents=True, exist_ok=True)
    if _find_results(config, spec) is not None:  # only the ledger has lost them
        found = json.loads((folder / RESULTS_FILE).read_text(encoding="utf-8"))
        _append(config, spec, found)
        return
    results = {
        "task": config.finetune.task,
        "metrics": _fine_tune(config, folder, spec.fingerprint),
        "protocol": describe_protocol(config.finetune, config.train.student),
        "seed": config.finetune.seed,
        "student": spec.inputs["student"],
        "method": config.train.method.name,
        "variant": config.train.variant,
        "batch_norm": config.train.batch_norm,
        "pool_size": require_student(config).outputs.pool_size,
    }
    write_atomic(folder / RESULTS_FILE, json.dumps(results, indent=2) + "\n")
    _append(config, spec, results)
    write_record(folder, spec, {RESULTS_FILE: file_digest(folder / RESULTS_FILE)})


def _append(config: Config, spec: Spec, results: dict[str, Any]) -> None:
    """To the ledger."""
    from pipeline.engine.device import choose_device

    lineage = read_lineage(config, str(choose_device(config.hardware.device)))
    digests = [spec.inputs[f"{config.finetune.task} {split}"] for split in SPLITS]
    benchmark = Benchmark(
        task="finetune",
        dataset=_DATASETS[config.finetune.task],
        split_digest=hashlib.sha256(json.dumps(digests).encode()).hexdigest(),
    )
    numbers = [
        Number.of(
            lineage,
            benchmark,
            Measurement(
                metric=name,
                value=value,
                probe="finetune",
                labels="all",
                seed=config.finetune.seed,
                protocol=results["protocol"],
            ),
        )
        for name, value in results["metrics"].items()
    ]
    append(config.paths.runs, spec.fingerprint, numbers)


def describe(config: Config, record: Record[Files]) -> str:
    """One line for the terminal."""
    place = config.run_dir / folder_name(config) / RESULTS_FILE
    name = _MAIN_SCORE[config.finetune.task]
    score = json.loads(place.read_text(encoding="utf-8"))["metrics"][name]
    return f"{place}, {config.finetune.task} {name} {score:.4g}"


def folder_name(config: Config) -> str:
    """Folder of the task under that of the run."""
    return f"finetune-{config.finetune.task}"


def _spec(config: Config) -> Spec:
    student = config.train.student
    if not student.is_resnet or not config.train.method.trains:
        raise UserError(
            "finetune: takes students of architecture resnet18 and resnet50, not "
            f"{student.architecture if config.train.method.trains else config.train.method.name}; "
            "train another"
        )
    root = data_root(config.finetune)
    inputs = {"student": require_student(config).outputs.digest}
    for split in SPLITS:
        files = list_files(config.finetune, split)
        paths = [path for file in files for path in (file.image, file.labels)]
        inputs[f"{config.finetune.task} {split}"] = files_digest(root, paths)
    return Spec.of("finetune", config.finetune, inputs)


def _fine_tune(config: Config, folder: Path, fingerprint: str) -> dict[str, float]:
    """Train and test, with a progress bar; returns the scores."""
    from pipeline.engine.device import choose_device
    from pipeline.eval.dense.loop import train

    section, device = config.finetune, choose_device(config.hardware.device)
    task = _build_task(config, device)
    with progress_bar("images") as bar:
        training = bar.add_task("finetune", total=section.steps * section.batch, note="")

        def report(samples_seen: int, metrics: dict[str, float]) -> None:
            bar.update(training, completed=samples_seen)
            if metrics:
                bar.update(training, note=f"loss {metrics['loss']:.3g}")

        train(task, section, folder, device, fingerprint, report)
        bar.update(training, completed=section.steps * section.batch)
        testing = bar.add_task("  test", total=len(list_files(section, "test")), note="")
        scores: dict[str, float] = task.evaluate(lambda done: bar.update(testing, completed=done))
        name = _MAIN_SCORE[section.task]
        bar.update(testing, note=f"{name} {scores[name]:.4g}")
    return scores


def _build_task(config: Config, device: Any) -> Any:
    from pipeline.eval.dense.detection import DetectionTask
    from pipeline.eval.dense.feature_maps import freeze
    from pipeline.eval.dense.pixelwise import NormalsTask, SegmentationTask
    from pipeline.student.backbone import StudentResNet, load_backbone

    train, section = config.train, config.finetune
    backbone = load_backbone(train.student, student_file(config))
    assert isinstance(backbone, StudentResNet)
    freeze(backbone, section.frozen)
    tasks = {"detection": DetectionTask, "segmentation": SegmentationTask, "normals": NormalsTask}
    return tasks[section.task](section, backbone, train.pixel_mean, train.pixel_std, device)

"""`python -m pipeline finetune CONFIG`: student -> results of a dense task, in its own folder."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from pipeline.config.root import Config
from pipeline.engine.launch import refuse_torchrun
from pipeline.eval.dense.fine_tuning import MAIN_SCORE, fine_tune
from pipeline.eval.dense.layouts import SPLITS, data_root, list_files
from pipeline.eval.dense.protocols import describe_protocol
from pipeline.records.digests import file_digest, files_digest
from pipeline.records.products import Files, is_intact, require_student
from pipeline.records.record import Record, find_complete, write_record
from pipeline.records.spec import Spec
from pipeline.results.ledger import Benchmark, Measurement, Number, append, is_appended
from pipeline.results.lineage import read_lineage
from shards.atomic import write_atomic
from shards.errors import UserError

RESULTS_FILE = "results.json"
_DATASETS = {"detection": "voc", "segmentation": "ade20k", "normals": "nyuv2"}


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
    refuse_torchrun("finetune")
    spec = _spec(config)
    folder = config.run_dir / folder_name(config)
    folder.mkdir(parents=True, exist_ok=True)
    if _find_results(config, spec) is not None:  # only the ledger has lost them
        found = json.loads((folder / RESULTS_FILE).read_text(encoding="utf-8"))
        _append(config, spec, found)
        return
    scores = fine_tune(config, folder, spec)
    results = {
        "task": config.finetune.task,
        "metrics": scores.metrics,
        "device": scores.device,
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
    lineage = read_lineage(config, results.get("device", ""))
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
    name = MAIN_SCORE[config.finetune.task]
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

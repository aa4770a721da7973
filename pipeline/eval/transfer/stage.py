"""`python -m pipeline transfer CONFIG`: the run's student -> one number for each data set.

Data sets are independent: each has a record of its own under `runs/NAME/transfer/`, representations
are kept by content under `paths.runs`, and Ray spreads them where `ray.eval_workers` says so.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.config.method import DiscriminatorConfig
from pipeline.config.root import Config
from pipeline.engine.workers import Workers
from pipeline.eval.transfer.result import Transfer, TransferResult
from pipeline.eval.transfer.sets import TRANSFER_SETS
from pipeline.records.products import require_student, student_file
from pipeline.records.record import Record, find_complete, write_record
from pipeline.records.spec import Spec
from pipeline.results.ledger import Benchmark, Measurement, Number, append, is_appended
from pipeline.results.lineage import read_lineage
from pipeline.terminal.progress import console, progress_bar
from shards.atomic import write_atomic
from shards.errors import UserError

if TYPE_CHECKING:
    import torch

RESULTS_FILE = "transfer.json"


def find(config: Config) -> Record[Transfer] | None:
    """Record of the transfer, None if a data set is to be measured or not in the ledger."""
    spec = _spec(config)
    record = find_complete(folder_of(config), spec, Transfer)
    if record is None or not record.outputs.scores.keys() >= set(_present(config)):
        return None
    return record if is_appended(config.paths.runs, config.name, spec.fingerprint) else None


def folder_name(config: Config) -> str:
    """Under the run's folder."""
    return "transfer"


def folder_of(config: Config) -> Path:
    """Of this run's transfer."""
    return config.run_dir / folder_name(config)


def run(config: Config) -> None:
    """Measure every data set that is not done; `transfer.json` comes last."""
    spec, names = _spec(config), _present(config)
    if config.transfer.sets == "all":
        for name in TRANSFER_SETS.keys() - set(names):
            console.print(f"transfer  {name}: {_problem(config, name)}", soft_wrap=True)
    if not names:
        raise UserError(
            f"transfer.root={config.transfer.root}: has none of the data sets, see above"
        )
    todo = [name for name in names if _read(config, name) is None]
    with progress_bar("sets") as bar:
        task = bar.add_task("transfer", total=len(names), completed=len(names) - len(todo), note="")
        for name, result in _measure_all(config, todo):
            note = f"{name} {result.metric} {result.score:.1f}"
            bar.update(task, advance=1, note=note)
    found = {name: _read(config, name) for name in TRANSFER_SETS}
    results = {name: result for name, result in found.items() if result is not None}
    _append(config, spec, results)
    write_atomic(
        config.run_dir / RESULTS_FILE,
        json.dumps({n: asdict(r) for n, r in results.items()}, indent=2) + "\n",
    )
    scores = {name: result.score for name, result in results.items()}
    write_record(folder_of(config), spec, Transfer(scores))


def describe(config: Config, record: Record[Transfer]) -> str:
    """One line for the terminal."""
    scores = record.outputs.scores
    shown = ", ".join(f"{name} {score:.1f}" for name, score in scores.items())
    is_whole = len(scores) == len(TRANSFER_SETS)
    mean = f"; average {sum(scores.values()) / len(scores):.2f}" if is_whole else ""
    return f"{config.run_dir / RESULTS_FILE}: {shown}{mean}"


def _spec(config: Config) -> Spec:
    if isinstance(config.train.method, DiscriminatorConfig):
        raise UserError(
            "train.method.name=discriminator: transfer is for students; choose a method that "
            "trains one"
        )
    inputs = {"student": require_student(config).outputs.digest}
    return Spec.of("transfer", config.transfer, inputs).without("sets")  # each has its own record


def _present(config: Config) -> list[str]:
    """The data sets that are wanted and, of `all`, there."""
    wanted = config.transfer.sets
    if config.transfer.root is None:
        raise UserError("transfer.root: name the folder with the data sets, transfer.root=FOLDER")
    if wanted != "all":
        return list(wanted)
    return [name for name in TRANSFER_SETS if _problem(config, name) is None]


def _problem(config: Config, name: str) -> str | None:
    """Why a data set cannot be measured, None if it can."""
    assert config.transfer.root is not None
    try:
        TRANSFER_SETS[name].check_present(config.transfer.root)
    except UserError as error:
        return str(error)
    return None


def _read(config: Config, name: str) -> TransferResult | None:
    """The result of a data set for this very student, None if there is none yet."""
    record = find_complete(folder_of(config) / name, _set_spec(config, name), TransferResult)
    return None if record is None else record.outputs


def _set_spec(config: Config, name: str) -> Spec:
    return Spec("transfer", {"set": name}, _spec(config).inputs)


def _workers(config: Config) -> Workers:
    return Workers(config.ray, config.hardware.device)


def _measure_all(config: Config, names: Sequence[str]) -> Iterator[tuple[str, TransferResult]]:
    anchored = config.anchored()
    for place, result in _workers(config).run(_measure, [(anchored, name) for name in names]):
        yield names[place], result


def _measure(config: Config, name: str, device: torch.device) -> TransferResult:
    """Measure one data set and leave its record; runs in this process or in a worker."""
    from pipeline.eval.transfer.datasets import open_transfer_set
    from pipeline.eval.transfer.evaluate import evaluate_transfer
    from pipeline.eval.transfer.features import Loading, extract_features
    from pipeline.student.backbone import load_backbone
    from pipeline.student.representations import REPRESENTATIONS

    section = config.transfer
    assert section.root is not None
    images = open_transfer_set(name, section.root)
    backbone = load_backbone(config.train.student, student_file(config))
    loading = Loading(device, section.batch, section.loader_workers)
    with progress_bar("images") as bar:
        task = bar.add_task(f"  {name}", total=images.num_images, note="")
        features = extract_features(
            backbone,
            images,
            loading,
            lambda count: bar.advance(task, count),
            config.paths.runs / REPRESENTATIONS,
        )
        bar.update(task, completed=images.num_images)  # those that were kept, too
    result = evaluate_transfer(features, device)
    write_record(folder_of(config) / name, _set_spec(config, name), result)
    return result


def _append(config: Config, spec: Spec, results: dict[str, TransferResult]) -> None:
    """To the ledger."""
    lineage = read_lineage(config, _workers(config).kind)
    numbers = [
        Number.of(
            lineage,
            Benchmark(task="transfer", dataset=name, split_digest=result.split_digest),
            Measurement(
                metric=result.metric,
                value=result.score,
                probe="linear",
                labels="all",
                seed=0,
                protocol=result.protocol,
            ),
        )
        for name, result in results.items()
    ]
    append(config.paths.runs, spec.fingerprint, numbers)

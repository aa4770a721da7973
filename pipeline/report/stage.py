"""`python -m pipeline report CONFIG`: everything a run has written -> one self-contained HTML page.

The page is a view: unlike other stages' results it is simply made again when anything behind it has
changed.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from markupsafe import Markup

from pipeline.config.root import Config
from pipeline.engine.metrics import read_metrics
from pipeline.eval.transfer.result import TransferResult
from pipeline.eval.transfer.sets import TRANSFER_SETS
from pipeline.records.ancestors import require_ancestors
from pipeline.records.digests import file_digest
from pipeline.records.products import Files, pool_shards, real_shards, require_student
from pipeline.records.record import Record, read_record, require_record, write_record
from pipeline.records.spec import Spec
from pipeline.report import results
from pipeline.report.domains import domain_row, memorisation_verdict
from pipeline.report.lineage import describe_lesson, describe_lineage
from pipeline.report.sections import list_sections, template
from pipeline.results.ledger import Number, read_evaluation
from pipeline.results.query import MUST_AGREE, group, name_differences
from pipeline.results.wording import probe_title, protocol_notes, title
from pipeline.teacher.description import find_teacher
from pipeline.terminal.progress import console
from shards.atomic import write_atomic
from shards.errors import UserError
from shards.reader import ShardReader

REPORT_FILE = "report.html"
_GRID = 12
_EQUAL = ("train_seed", "epochs")
"""Of a run and its control."""


def find(config: Config) -> Record[Files] | None:
    """Record of the page if it shows the current results."""
    spec = _spec(config)
    record = read_record(config.run_dir / "report", Files)
    page = config.run_dir / REPORT_FILE
    is_current = record is not None and record.fingerprint == spec.fingerprint
    return record if is_current and page.exists() else None


def run(config: Config) -> None:
    """Write the page."""
    spec = _spec(config)
    write_atomic(config.run_dir / REPORT_FILE, _render(config))
    write_record(config.run_dir / "report", spec, {"page": str(config.run_dir / REPORT_FILE)})


def describe(config: Config, record: Record[Files]) -> str:
    """One line for the terminal."""
    return str(config.run_dir / REPORT_FILE)


def print_results(config: Config) -> None:
    """The table of results, on the terminal."""
    sets = results.by_set(group(_accuracies(config)))
    for found in sets:
        console.print(results.results_table(config.name, found))
    if not sets:
        console.print(f"report    {results.NO_LABELS}", soft_wrap=True)


def _spec(config: Config) -> Spec:
    origin = require_ancestors(config)
    evaluation = require_record(config.run_dir / "eval", "eval", Files, config.eval)
    records: list[Record[Any]] = [origin.real, origin.student, evaluation]
    if origin.pool is not None:
        records.append(origin.pool)
    inputs = {record.stage: record.fingerprint for record in records}
    if (control := _control(config)) is not None:
        inputs["control"] = control.fingerprint
    inputs |= {f"set {name}": record.fingerprint for name, record in _transfer(config).items()}
    inputs |= {f"section {path.stem}": file_digest(path) for path in list_sections(config.run_dir)}
    return Spec.of("report", config, inputs)


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: missing or damaged ({error}); run `make eval` again") from None


def _numbers(config: Config) -> list[Number]:
    """All that the run's evaluation measured."""
    evaluation = require_record(config.run_dir / "eval", "eval", Files, config.eval)
    return read_evaluation(config.paths.runs, config.name, evaluation.fingerprint)


def _control(config: Config) -> Record[Files] | None:
    """The evaluation of the run that this one is shown beside, if there is one."""
    if config.control_name is None:
        return None
    return read_record(config.paths.runs / config.control_name / "eval", Files)


def _transfer(config: Config) -> dict[str, Record[TransferResult]]:
    """What the student was found to be on data sets of Ericsson et al. 2021, by their names."""
    folder, student = config.run_dir / "transfer", require_student(config).outputs.digest
    found = {name: read_record(folder / name, TransferResult) for name in TRANSFER_SETS}
    return {
        name: record
        for name, record in found.items()
        if record is not None and record.inputs["student"] == student
    }


def _accuracies(config: Config) -> list[Number]:
    """The run's own, and those of its control's student as far as they were measured alike."""
    mine = [number for number in _numbers(config) if number.task == "classification"]
    control = _control(config)
    if config.eval.control is None or config.control_name is None or control is None:
        return mine
    theirs = read_evaluation(config.paths.runs, config.control_name, control.fingerprint)
    return mine + [
        replace(number, representation=config.eval.control)
        for number in theirs
        if number.representation == "student"
        and any(not name_differences(number, one, (*MUST_AGREE, *_EQUAL)) for one in mine)
    ]


def _render(config: Config) -> str:
    from pipeline.report import figures

    origin = require_ancestors(config)
    teacher = find_teacher(config.teacher_folder, origin.teacher_digest)
    numbers = _numbers(config)
    domains = [number for number in numbers if number.task == "domains"]
    sets = results.by_set(group(_accuracies(config)))
    groups = sets[0].groups if sets else []
    metrics = read_metrics(config.run_dir / "train" / "metrics.jsonl")
    readers = {
        "real": real_shards(config, "train").open(),
        "test": real_shards(config, "test").open(),
    }
    if config.train.reads_pool:
        readers["synthetic"] = pool_shards(config).open().images
    confusion = _read_json(config.run_dir / "eval" / "confusion.json")
    curves = _read_json(config.run_dir / "eval" / "curves.json")
    neighbours = _read_json(config.run_dir / "eval" / "neighbours.json")
    sections = list_sections(config.run_dir)  # autoescaped when they were written
    page: str = template(Path(__file__).parent, "page.html.j2").render(
        name=config.name,
        verdict=results.verdict(groups),
        spread=[number for number in numbers if number.task == "spread"],
        lesson=describe_lesson(
            config,
            origin.student.outputs.pool_size,
            origin.real.outputs,
            teacher.origin.get("num_real") if teacher else None,
        ),
        losses_caption=_LOSSES.get(config.train.method.name, "The terms of the loss."),
        num_test=len(readers["test"]),
        query_split=neighbours["split"],
        resolution=config.real.resolution,
        sets=sets,
        transfer=[record.outputs for record in _transfer(config).values()],
        title=title,
        protocols=lambda found: protocol_notes([one.first for one in found.groups]),
        bars=lambda found: figures.result_bars(found.groups),
        real_grid=_grid(readers["real"]),
        synthetic_grid=_grid(readers["synthetic"]) if "synthetic" in readers else None,
        synthetic_resolution=origin.pool.outputs.resolution if origin.pool is not None else None,
        neighbours=_neighbours(neighbours, readers),
        domains=[domain_row(number) for number in domains],
        domain_protocols=protocol_notes(domains),
        memorisation=memorisation_verdict(domains),
        confusion=confusion and figures.confusion_matrix(confusion["counts"], confusion["classes"]),
        confusion_caption=confusion
        and "Test images by class: "
        f"{probe_title(confusion['probe'], confusion['labels'])}, on the student.",
        scatter=_scatter(config, readers),
        probe_curves=figures.probe_curves(curves) if curves else None,
        teacher=figures.teacher_curve(_teacher_metrics(config) if teacher else []),
        sections=[Markup(path.read_text(encoding="utf-8")) for path in sections],
        losses=figures.loss_curves(metrics) if metrics else None,
        collapse=figures.collapse_curves(metrics),
        monitor=figures.monitor_curves(metrics),
        lineage=describe_lineage(config, origin),
        config=yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False),
        command=" ".join(["python -m pipeline", *sys.argv[1:]]),
    )
    return page


def _grid(reader: ShardReader) -> str:
    from pipeline.report.figures import image_grid

    return image_grid(reader.gather("image", np.arange(min(len(reader), _GRID * _GRID))), _GRID)


def _neighbours(found: dict[str, Any], readers: dict[str, ShardReader]) -> list[dict[str, str]]:
    from pipeline.report.figures import image_grid

    asked = readers["test" if found["split"] == "test" else "real"]
    result = []
    for row, query in enumerate(found["test"]):
        strips = {"test": image_grid(asked.gather("image", np.array([query])), 1)}
        for domain in found.keys() - {"test", "split"}:
            indices = np.array(found[domain]["indices"][row])
            strips[domain] = image_grid(readers[domain].gather("image", indices), len(indices))
        result.append(strips)
    return result


def _scatter(config: Config, readers: dict[str, ShardReader]) -> Any:
    """The embedding plot, None if the evaluation made none."""
    from pipeline.records.embeddings import read_embeddings
    from pipeline.report.scatter import make_scatter

    path = config.run_dir / "eval" / "embedding.json"
    if not path.exists() or "synthetic" not in readers:
        return None
    embeddings = read_embeddings(path)
    rows = np.arange(len(embeddings.labels))
    return make_scatter(embeddings, readers["synthetic"].gather("image", rows))


def _teacher_metrics(config: Config) -> list[dict[str, float]]:
    """Of the teacher's training, those with a distance; none for an imported or shipped teacher."""
    path = config.teacher_folder / "metrics.jsonl"
    rows = read_metrics(path) if config.train.reads_pool and path.exists() else []
    return [row for row in rows if "frechet_distance" in row]


_LOSSES = {
    "squeeze_and_span": "The terms of the squeeze objective (Eq. 11) and of the span objective "
    "(Eq. 12).",
    "simsiam": "The negative cosine of prediction and embedding.",
}

"""`python -m pipeline eval CONFIG`: student -> results, beside two baselines.

Each labelled set, the neighbours, the domains and the embedding are a phase; what a phase has found
is kept, and an evaluation that was interrupted goes on behind it. Neighbours: `sets.py`,
`pictures.py` and `domains/` find it, `numbers.py` says how it gets into the ledger.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pipeline.config.labelled_set import ERICSSON
from pipeline.config.root import Config
from pipeline.eval.labelled import set_inputs
from pipeline.eval.numbers import SetScores, accuracy_rows, append_numbers, domain_rows
from pipeline.eval.transfer import stage as transfer
from pipeline.records.ancestors import require_ancestors
from pipeline.records.digests import file_digest
from pipeline.records.products import Files, is_intact
from pipeline.records.record import Record, find_complete, read_record, write_record
from pipeline.records.spec import Spec
from pipeline.results.ledger import Measurement, is_appended
from pipeline.terminal.progress import console
from shards.atomic import write_atomic
from shards.errors import UserError

RESULTS_FILE = "results.json"
NEIGHBOURS_FILE = "neighbours.json"
DOMAINS_FILE = "domains.json"
CONFUSION_FILE = "confusion.json"
EMBEDDING_FILE = "embedding.json"
CURVES_FILE = "curves.json"
_ALWAYS = {RESULTS_FILE, NEIGHBOURS_FILE, DOMAINS_FILE, CONFUSION_FILE, CURVES_FILE}


def find(config: Config) -> Record[Files] | None:
    """Record of this run's evaluation, None if there is none or a file is not as it was left."""
    spec = _spec(config)
    record = _find_record(config, spec)
    if any(transfer.find(carried) is None for carried in transfer_configs(config)):
        return None
    if record is None or not record.outputs.keys() >= _ALWAYS:
        return None
    is_there = all(is_intact(_place(config, name), d) for name, d in record.outputs.items())
    is_recorded = is_appended(config.paths.runs, config.name, spec.fingerprint)
    return record if is_there and is_recorded else None


def _find_record(config: Config, spec: Spec) -> Record[Files] | None:
    """An evaluation whose labelled sets were others is none; raises as `find_complete` does for one
    of anything else.
    """
    record = read_record(config.run_dir / "eval", Files)
    if record is not None and _less_sets(record.spec) == _less_sets(spec):
        return record if record.fingerprint == spec.fingerprint else None
    sets = {} if record is None else record.inputs.items() - _less_sets(record.spec).inputs.items()
    alike = Spec(spec.stage, spec.config, {**_less_sets(spec).inputs, **dict(sets)})
    return find_complete(config.run_dir / "eval", alike, Files)  # sets may change: not named


def _less_sets(spec: Spec) -> Spec:
    """What all sets have in common."""
    kept = {name: value for name, value in spec.inputs.items() if not name.startswith("set ")}
    return Spec(spec.stage, spec.config, kept)


def run(config: Config) -> None:
    """Measure everything, append it to the ledger, and write the files that show it."""
    from pipeline.engine.workers import Workers
    from pipeline.eval.domains.measure import measure_domains
    from pipeline.eval.labelled import open_sets
    from pipeline.eval.parts import Parts
    from pipeline.eval.pictures import count_confusions, find_neighbours
    from pipeline.eval.probes.probe import check_few_labels
    from pipeline.eval.sets import probe_set
    from pipeline.eval.spread import measure_spread
    from pipeline.eval.subjects import baselines, cache_folder, student_subject
    from pipeline.student.extraction import Extractor

    spec = _spec(config)
    for carried in transfer_configs(config):
        if transfer.find(carried) is None:
            transfer.run(carried)
    sets = open_sets(config)
    for labelled in sets:
        for fold in labelled.folds:
            check_few_labels(config.eval, labelled.train.labels[fold.train])
    own = next((labelled for labelled in sets if labelled.is_own), None)
    parts = Parts(config.run_dir / "eval" / "parts", _less_sets(spec).fingerprint)
    workers = Workers(config.ray, config.hardware.device)
    extractor = Extractor(cache_folder(config), workers)
    student = student_subject(config)
    subjects = [student]
    if sets and config.eval.baselines:
        subjects += baselines(config, workers)
    scores = [
        SetScores(labelled, list(probe_set(config, labelled, subjects, extractor, parts)))
        for labelled in sets
    ]
    spread = None if sets else measure_spread(config, student, extractor)
    neighbours = parts.get(
        "neighbours", dict[str, Any], lambda: find_neighbours(config, student, own, extractor)
    )
    domains = parts.get(
        "domains", list[Measurement], lambda: measure_domains(config, student, extractor)
    )
    try:
        embedding = parts.get("embedding", str, lambda: _embed(config, student, own, extractor))
    except UserError as error:  # the teacher may be gone, and the numbers are there
        console.print(f"eval      no embedding plot: {error}", soft_wrap=True)
        embedding = ""
    numbers = append_numbers(
        config, spec.fingerprint, scores, domains, [spread] if spread else [], workers.kind
    )
    curves = {
        (found.labelled.name, score.top1.representation): score.curve
        for found in scores
        for score in found.scores
        if score.curve
    }
    shown = sets[0].name if sets else ""
    contents = {
        RESULTS_FILE: accuracy_rows(numbers, curves),
        NEIGHBOURS_FILE: neighbours,
        DOMAINS_FILE: domain_rows(numbers),
        CONFUSION_FILE: count_confusions(scores[0].labelled, scores[0].scores[0])
        if scores
        else None,
        CURVES_FILE: {subject: curve for (name, subject), curve in curves.items() if name == shown},
    }
    for name, content in contents.items():
        write_atomic(_place(config, name), json.dumps(content, indent=2) + "\n")
    names = {*_ALWAYS, EMBEDDING_FILE} if embedding else _ALWAYS
    _place(config, EMBEDDING_FILE).unlink(missing_ok=True)
    if embedding:
        write_atomic(_place(config, EMBEDDING_FILE), embedding)
    files = {name: file_digest(_place(config, name)) for name in sorted(names)}
    write_record(config.run_dir / "eval", spec, files)


def transfer_configs(config: Config) -> list[Config]:
    """Configs under which `transfer` measures those of `eval.sets` that are of Ericsson et al., one
    for each folder of such sets.
    """
    roots: dict[Any, list[str]] = {}
    for name, labelled in config.eval.sets.items():
        if labelled.source == ERICSSON:
            roots.setdefault(labelled.path or config.transfer.root, []).append(name)
    return [
        config.model_copy(
            update={
                "transfer": config.transfer.model_copy(update={"root": root, "sets": tuple(names)})
            }
        )
        for root, names in roots.items()
    ]


def _place(config: Config, name: str) -> Path:
    """Of one of the files that the stage leaves."""
    return (config.run_dir if name == RESULTS_FILE else config.run_dir / "eval") / name


def _embed(config: Config, student: Any, own: Any, extractor: Any) -> str:
    """Content of the embedding plot's file; empty where a pool has too few samples."""
    from pipeline.eval.domains.measure import embed_samples

    labelled = None if own is None else student.represent(own, extractor)[0]
    found = embed_samples(config, student, labelled, extractor)
    return "" if found is None else found.to_json()


def describe(config: Config, record: Record[Files]) -> str:
    """One line for the terminal."""
    return str(_place(config, RESULTS_FILE))


def _spec(config: Config) -> Spec:
    origin = require_ancestors(config)
    inputs = {
        "student": origin.student.outputs.digest,
        "real train": origin.real.outputs.digests["train"],
        "real test": origin.real.outputs.digests["test"],
    }
    if config.train.view_size is not None:
        inputs["view size"] = str(config.view_size)
    if origin.pool is not None:
        inputs["pool"] = origin.pool.outputs.digest
    return Spec.of("eval", config.eval, {**inputs, **set_inputs(config)})

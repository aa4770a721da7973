"""`python -m pipeline report CONFIG`: everything a run has written -> one self-contained HTML page.

The page is a view: unlike other stages' results it is simply made again when anything behind it has
changed.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from markupsafe import Markup
from pydantic import BaseModel
from rich.table import Table

from pipeline.config import Config
from pipeline.metrics import read_metrics
from pipeline.progress import console
from pipeline.record import (
    Recipe,
    Record,
    file_digest,
    read_record,
    require_record,
    write_record,
)
from pipeline.report.domains import domain_rows, memorisation_verdict, protocols
from pipeline.report.sections import list_sections, template
from pipeline.stores import pool_shards, real_shards
from shards.atomic import write_atomic
from shards.errors import UserError
from shards.reader import ShardReader

REPORT_FILE = "report.html"
REPRESENTATIONS = {
    "student": "student",
    "raw_pixels": "raw pixels",
    "untrained_student": "student, untrained",
}
PROBES = {"linear": "linear", "knn": "kNN", "linear_sgd": "linear by SGD"}
_GRID = 12


def find(config: Config) -> Record | None:
    """Record of the page if it shows the current results."""
    recipe = _recipe(config)
    record = read_record(config.run_dir / "report")
    page = config.run_dir / REPORT_FILE
    is_current = record is not None and record.fingerprint == recipe.fingerprint
    return record if is_current and page.exists() else None


def run(config: Config) -> None:
    """Write the page."""
    recipe = _recipe(config)
    write_atomic(config.run_dir / REPORT_FILE, _render(config))
    write_record(config.run_dir / "report", recipe, {"page": str(config.run_dir / REPORT_FILE)})


def describe(config: Config, record: Record) -> str:
    """One line for the terminal."""
    return str(config.run_dir / REPORT_FILE)


def print_results(config: Config) -> None:
    """The table of results, for the terminal."""
    rows = _results(config)
    protocols = _protocols(rows)
    table = Table(title=f"{config.name}: top-1 accuracy on real test images, %")
    table.add_column("representation")
    for probe, labels in protocols:
        table.add_column(f"{PROBES[probe]}\n{labels.replace('_', ' ')}", justify="right")
    for key, title in _representations(rows).items():
        cells = [_cell(rows, key, protocol) for protocol in protocols]
        table.add_row(title, *cells, style="bold" if key == "student" else None)
    console.print(table)


def _recipe(config: Config) -> Recipe:
    inputs = {stage: record.fingerprint for stage, record in _records(config).items()}
    inputs |= {f"section {path.stem}": file_digest(path) for path in list_sections(config.run_dir)}
    return Recipe("report", config.model_dump(mode="json", exclude={"ray", "paths"}), inputs)


def _records(config: Config) -> dict[str, Record]:
    """What the stages left, each checked to be made with this config."""
    sections: dict[str, BaseModel] = {"real": config.real}
    if config.train.reads_pool:
        sections["generate"] = config.generate
    sections |= {"train": config.train, "eval": config.eval}
    return {
        stage: require_record(config.run_dir / stage, stage, section)
        for stage, section in sections.items()
    }


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: missing or damaged ({error}); run `make eval` again") from None


def _results(config: Config) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = _read_json(config.run_dir / "results.json")
    return rows


def _protocols(rows: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return list(dict.fromkeys((row["probe"], row["labels"]) for row in rows))


def _representations(rows: list[dict[str, Any]]) -> dict[str, str]:
    """Those that were probed, with their titles."""
    found = {row["representation"] for row in rows}
    return {key: title for key, title in REPRESENTATIONS.items() if key in found}


def _cell(rows: list[dict[str, Any]], representation: str, protocol: tuple[str, str]) -> str:
    """The accuracy, with its spread where there are several seeds; "–" where none was measured."""
    row = _find_row(rows, representation, *protocol)
    if row is None:
        return "–"
    spread = f" ± {row['top1_std']:.1f}" if len(row["seeds"]) > 1 else ""
    return f"{row['top1_mean']:.1f}{spread}"


def _find_row(
    rows: list[dict[str, Any]], representation: str, probe: str, labels: str
) -> dict[str, Any] | None:
    key = (representation, probe, labels)
    found = (r for r in rows if (r["representation"], r["probe"], r["labels"]) == key)
    return next(found, None)


def _verdict(rows: list[dict[str, Any]]) -> str:
    probes = {row["probe"] for row in rows if row["representation"] == "student"}
    probe = next(name for name in ("linear", "linear_sgd", "knn") if name in probes)
    title = "kNN" if probe == "knn" else "a linear probe"
    with_all = {key: _cell(rows, key, (probe, "all")) for key in REPRESENTATIONS}
    found = (row["labels"] for row in rows if row["labels"] != "all" and row["probe"] == probe)
    few = next(found, None)
    if few is None:
        return f"On the student {title} scores {with_all['student']} % with all labels."
    scores = {key: _cell(rows, key, (probe, few)) for key in REPRESENTATIONS}
    name = few.replace("_per_", " labels per ")
    if len(_representations(rows)) < len(REPRESENTATIONS):
        return (
            f"On the student {title} scores {with_all['student']} % with all labels and "
            f"{scores['student']} % with {name}."
        )
    best = max((row for row in rows if row["labels"] == few), key=lambda row: row["top1_mean"])
    warning = "" if best["representation"] == "student" else " The student is not the best here."
    return (
        f"With {name}, {title} on the student scores "
        f"{scores['student']} %, on raw pixels {scores['raw_pixels']} %, and on the same network "
        f"untrained {scores['untrained_student']} %. With all labels, in that order: "
        f"{with_all['student']}, {with_all['raw_pixels']} and "
        f"{with_all['untrained_student']} %.{warning}"
    )


def _render(config: Config) -> str:
    from pipeline.report import figures

    records = _records(config)
    rows = _results(config)
    metrics = read_metrics(config.run_dir / "train" / "metrics.jsonl")
    readers = {
        "real": real_shards(config, "train").open(),
        "test": real_shards(config, "test").open(),
    }
    if config.train.reads_pool:
        readers["synthetic"] = pool_shards(config).open().images
    few_rows = [row for row in rows if row["labels"] != "all"]
    numbers = _read_json(config.run_dir / "eval" / "domains.json")
    confusion = _read_json(config.run_dir / "eval" / "confusion.json")
    curves = _read_json(config.run_dir / "eval" / "curves.json")
    sections = list_sections(config.run_dir)  # autoescaped when they were written
    page: str = template(Path(__file__).parent, "page.html.j2").render(
        name=config.name,
        verdict=_verdict(rows),
        lesson=_lesson(config, records["train"].outputs["pool_size"], len(readers["real"])),
        losses_caption=_LOSSES.get(config.train.method.name, "The terms of the loss."),
        num_test=len(readers["test"]),
        resolution=config.real.resolution,
        names=_representations(rows),
        protocols=_protocols(rows),
        protocol_texts=_protocol_texts(rows),
        num_seeds=len(few_rows[0]["seeds"]) if few_rows else 1,
        probe_names=PROBES,
        cell=lambda key, protocol: _cell(rows, key, protocol),
        bars=figures.result_bars(rows, _representations(rows), PROBES),
        real_grid=_grid(readers["real"]),
        synthetic_grid=_grid(readers["synthetic"]) if "synthetic" in readers else None,
        neighbours=_neighbours(config, readers),
        domains=domain_rows(numbers),
        domain_protocols=protocols(numbers),
        memorisation=memorisation_verdict(numbers),
        confusion=figures.confusion_matrix(confusion["counts"], confusion["classes"]),
        confusion_caption=f"Test images by class: {PROBES[confusion['probe']]} probe on the "
        f"student, {confusion['labels'].replace('_', ' ')} labels.",
        scatter=_scatter(config, readers),
        probe_curves=figures.probe_curves(curves, REPRESENTATIONS) if curves else None,
        teacher=figures.teacher_curve(_teacher_metrics(config)),
        sections=[Markup(path.read_text(encoding="utf-8")) for path in sections],
        losses=figures.loss_curves(metrics) if metrics else None,
        collapse=figures.collapse_curves(metrics),
        lineage=_lineage(config, records),
        config=yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False),
        command=" ".join(["python -m pipeline", *sys.argv[1:]]),
    )
    return page


def _protocol_texts(rows: list[dict[str, Any]]) -> list[str]:
    """Each protocol with its probe, and with the labels where those make a difference."""
    texts: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        texts.setdefault((row["probe"], row["protocol"]), []).append(row["labels"])
    probes = [probe for probe, _ in texts]
    found = []
    for (probe, text), labels in texts.items():
        title = "kNN" if probe == "knn" else PROBES[probe].replace("l", "L", 1)
        if probes.count(probe) > 1:
            named = ", ".join(dict.fromkeys(labels)).replace("_", " ")
            title += f", {named.replace('all', 'all labels')}"
        found.append(f"{title}: {text}")
    return found


def _grid(reader: ShardReader) -> str:
    from pipeline.report.figures import image_grid

    return image_grid(reader.gather("image", np.arange(min(len(reader), _GRID * _GRID))), _GRID)


def _neighbours(config: Config, readers: dict[str, ShardReader]) -> list[dict[str, str]]:
    from pipeline.report.figures import image_grid

    found = _read_json(config.run_dir / "eval" / "neighbours.json")
    result = []
    for row, query in enumerate(found["test"]):
        strips = {"test": image_grid(readers["test"].gather("image", np.array([query])), 1)}
        for domain in found.keys() - {"test"}:
            indices = np.array(found[domain]["indices"][row])
            strips[domain] = image_grid(readers[domain].gather("image", indices), len(indices))
        result.append(strips)
    return result


def _scatter(config: Config, readers: dict[str, ShardReader]) -> Any:
    """The embedding plot, None if the evaluation made none."""
    from pipeline.embeddings import read_embeddings
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


def _lineage(config: Config, records: dict[str, Record]) -> dict[str, str]:
    train = records["train"]
    student = train.outputs["student.safetensors"][:16]
    lineage = {}
    if config.train.reads_pool:
        pool = records["generate"]
        lineage["teacher"] = (
            f"{pool.outputs['teacher']}, generator sha256 {pool.inputs['teacher'][:16]}…"
        )
        lineage["pool"] = (
            f"cache key {pool.outputs['key']}, size {pool.outputs['num_samples']:,}, seed "
            f"{config.generate.seed}"
        )
    elif "teacher" in train.inputs:
        lineage["teacher"] = f"{config.teacher_folder}, sha256 {train.inputs['teacher'][:16]}…"
    return lineage | {
        "real images": f"{config.real.source}, shards {records['real'].outputs['folder']}",
        "student": f"{_student(config)}, sha256 {student}…",
        "training": f"{config.train.method.name}, {config.train.variant} variant, "
        f"{config.train.epochs} epochs, fingerprint {train.fingerprint[:16]}, "
        f"finished {train.created_at}",
        "code": str(train.commit or "not a git checkout"),
        "versions": ", ".join(f"{name} {version}" for name, version in train.versions.items()),
    }


def _student(config: Config) -> str:
    if config.train.method.name == "discriminator":
        return "the discriminator's features"
    described = config.train.student.backbone
    architecture = described.pop("architecture")
    return ", ".join([str(architecture), *(f"{name} {described[name]}" for name in described)])


def _lesson(config: Config, pool_size: int, num_real: int) -> str:
    """What the student learned from, for readers."""
    train = config.train
    if train.method.name == "discriminator":
        return "No student was trained: these are features of the GAN's discriminator."
    images = []
    if train.num_synthetic:
        how = "rendered once by" if train.reads_pool else "rendered, each for one step, by"
        images.append(f"{pool_size:,} images {how} a frozen generator")
    if train.num_real:
        images.append(f"{num_real:,} real images without labels")
    method = _METHODS.get(train.method.name, train.method.name)
    return f"{method}: the student learned from {' and from '.join(images)}."


_METHODS = {
    "squeeze_and_span": "Squeeze and span (Yang et al., NeurIPS 2022), with the pooled features of "
    "the generator as targets",
    "vicreg": "VICReg (Bardes et al., ICLR 2022)",
    "simsiam": "SimSiam (Chen & He, CVPR 2021)",
    "encoding": "Encoding into the generator's latents (Yang et al., NeurIPS 2022, Eq. 3)",
}
_LOSSES = {
    "squeeze_and_span": "The terms of the squeeze objective (Eq. 11) and of the span objective "
    "(Eq. 12).",
    "simsiam": "The negative cosine of prediction and embedding.",
}

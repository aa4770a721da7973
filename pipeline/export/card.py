"""`README.md` of an export: a model card with front matter as model hubs read it, and
`config.json` in the style of timm's.

Neighbours: `folder.py` writes both; `loading.py` has the code to load the student, the ledger what
was measured of it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Any

import yaml

from pipeline.config.root import Config
from pipeline.export.loading import (
    WEIGHTS_FILE,
    is_plain,
    timm_lines,
    timm_name,
    torchvision_lines,
)
from pipeline.records.ancestors import Ancestors, require_ancestors
from pipeline.records.products import Files
from pipeline.records.record import read_record
from pipeline.report.sections import template
from pipeline.results.ledger import read_evaluation, read_ledger
from pipeline.results.query import Group, group
from pipeline.results.wording import format_group, probe_title, spread_over, title, unit
from pipeline.teacher.description import find_teacher
from shards.errors import UserError

SIGNATURE = "with the software of *squeeze and span*"
"""Stands in every card."""
_FRONT_MATTER = re.compile(r"\A---\n(.*?)\n---\n", re.DOTALL)
_LICENCE_FIELDS = ("license", "license_name", "license_link")
_SIZES = {"resnet18": "ResNet-18", "resnet50": "ResNet-50"}


def hub_config(config: Config, representation_dim: int) -> dict[str, Any]:
    """Content of `config.json`.

    timm reads `architecture`, `pretrained_cfg` and `model_args`; where the stem or width is not
    timm's own, `student` says what has to be changed before the weights fit. `stored_size` is the
    side to which the run brings images before it brings them to that of its views.
    """
    train, side = config.train, config.view_size
    name = timm_name(train.student)
    return {
        "architecture": name or train.student.architecture,
        "library": "torchvision" if name is None else "timm",
        "num_classes": 0,
        "num_features": representation_dim,
        "pretrained_cfg": {
            "input_size": [3, side, side],
            "interpolation": "bicubic",
            "crop_pct": 1.0,
            "crop_mode": "center",
            "mean": list(train.pixel_mean),
            "std": list(train.pixel_std),
            "num_classes": 0,
        },
        **({"model_args": train.student.options} if train.student.options else {}),
        "student": train.student.backbone,
        "stored_size": config.real.resolution,
    }


def write_card(
    config: Config, representation_dim: int, weights_sha256: str, licence: dict[str, Any]
) -> str:
    """Content of `README.md`.

    Args:
        config: of the run.
        representation_dim: width of the representation.
        weights_sha256: of `WEIGHTS_FILE`.
        licence: fields of the front matter about it; none leaves it to be chosen.
    """
    origin = require_ancestors(config)
    train = origin.student
    numbers = _student_numbers(config, train.outputs.digest)
    protocols = list(dict.fromkeys(found.first.protocol for found in numbers))
    described = config.train.student.backbone
    details = [f"{name} {value}" for name, value in described.items() if name != "architecture"]
    view = {
        "front_matter": _front_matter(config, numbers, licence),
        "has_licence": bool(licence),
        "name": config.name,
        "network": ", ".join([_network(config), *details]),
        "dataset": dataset_name(config),
        "view_size": config.view_size,
        "dim": representation_dim,
        "mean": list(config.train.pixel_mean),
        "std": list(config.train.pixel_std),
        "torchvision_lines": torchvision_lines(config),
        "timm_lines": timm_lines(config),
        "is_plain": is_plain(config.train.student),
        "numbers": [
            _number_row(found, protocols.index(found.first.protocol) + 1) for found in numbers
        ],
        "protocols": protocols,
        "lineage": _lineage(config, origin, weights_sha256),
        "training": yaml.safe_dump(train.config, sort_keys=False),
        "method": config.train.method.name,
        "uses_gan": bool(config.train.num_synthetic),
        "uses_real": bool(config.train.num_real),
    }
    card: str = template(Path(__file__).parent, "card.md.j2").render(view)
    return card


def dataset_name(config: Config) -> str:
    """The data set's name; of a folder only its own, not where it lies."""
    real = config.real
    own = real.path or real.train
    return PurePath(own).name if real.source == "folder" and own is not None else real.source


def _student_numbers(config: Config, student: str) -> list[Group]:
    """What was measured of the very student with this digest and of the baselines beside it; none
    if nothing was measured yet.

    Raises:
        UserError: for a ledger that is damaged, or that has lost the run's evaluation.
    """
    evaluated = read_record(config.run_dir / "eval", Files)
    if evaluated is not None and evaluated.inputs["student"] == student:
        read_evaluation(config.paths.runs, config.name, evaluated.fingerprint)
    numbers = read_ledger(config.paths.runs, [config.name])
    mine = [number for number in numbers if number.student_digest in (student, None)]
    is_measured = any(number.student_digest == student for number in mine)
    return group(mine) if is_measured else []


def _number_row(found: Group, protocol: int) -> list[str]:
    """One line of the table of numbers."""
    first, summary = found.first, found.summary
    seeds = "1" if summary.std is None else f"{summary.num_values} {spread_over(found)}"
    names = (title(first.representation), first.dataset, _measured(found))
    return [*names, format_group(found), seeds, str(protocol)]


def _measured(found: Group) -> str:
    """Probe, labels and metric, with its unit."""
    first = found.first
    return ", ".join(filter(None, [probe_title(first.probe, first.labels), unit(first.metric)]))


def read_licence(card: Path) -> dict[str, Any]:
    """What an earlier card's front matter says of the licence: it is the user's own."""
    try:
        found = _FRONT_MATTER.match(card.read_text(encoding="utf-8"))
        fields = yaml.safe_load(found.group(1)) if found else None
    except FileNotFoundError:
        return {}
    except (yaml.YAMLError, ValueError):
        raise UserError(
            f"{card}: its front matter cannot be read, so a licence there would be lost; fix it "
            "or delete the file"
        ) from None
    fields = fields if isinstance(fields, dict) else {}
    return {name: fields[name] for name in _LICENCE_FIELDS if fields.get(name) is not None}


def _front_matter(config: Config, numbers: Sequence[Group], licence: dict[str, Any]) -> str:
    student = config.train.student
    data: dict[str, Any] = {
        **licence,
        "library_name": "timm" if is_plain(student) else "pytorch",
        "pipeline_tag": "image-feature-extraction",
        "tags": ["image-feature-extraction", "self-supervised", "distillation", "gan"],
    }
    metrics = [
        {"type": "accuracy", "name": _measured(found), "value": round(found.summary.mean, 2)}
        for found in numbers
        if found.first.task == "classification"
        and found.first.dataset == config.real.source
        and found.first.representation == "student"
    ]
    if metrics:
        dataset = {"type": config.real.source, "name": dataset_name(config)}
        task = {"type": "image-classification", "name": "probes on frozen representations"}
        result = {"task": task, "dataset": dataset, "metrics": metrics}
        data["model-index"] = [{"name": config.name, "results": [result]}]
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True)


def _lineage(config: Config, origin: Ancestors, weights_sha256: str) -> dict[str, str]:
    train, real, pool = origin.student, origin.real.outputs, origin.pool
    counts = " + ".join(f"{n:,} {split}" for split, n in real.num_samples.items())
    if real.num_available is not None:
        counts += f" (train drawn from {real.num_available:,})"
    digests = ", ".join(f"{split} {d}" for split, d in real.digests.items())
    lineage = {
        "real images": f"{dataset_name(config)}, {counts}, {config.real.resolution} px",
        "real shards, SHA-256": digests,
    }
    if pool is not None:
        lineage["pool"] = (
            f"key {pool.outputs.key}, {train.outputs.pool_size:,} samples of "
            f"{pool.outputs.resolution} px, seed {config.generate.seed}, truncation "
            f"{config.generate.truncation_psi:g}"
        )
        if config.generate.classes is not None:
            lineage["pool"] += f", classes {list(config.generate.classes)}"
    if origin.teacher_digest is not None:
        lineage["teacher"] = _teacher(config, origin.teacher_digest)
        lineage["teacher, SHA-256"] = origin.teacher_digest
    if train.outputs.init is not None:
        lineage["weights that it started from, SHA-256"] = train.outputs.init
    stopped = train.outputs.stopped_at_epoch
    after = "" if stopped is None else f" (stopped after {stopped:g})"
    return lineage | {
        "training": f"{train.config['method']['name']}, {train.config['variant']} variant, "
        f"{train.config['batch_norm']} batch normalisation, {train.config['epochs']} epochs"
        f"{after}, seed {train.config['seed']}, finished {train.created_at}",
        "training, fingerprint": train.fingerprint,
        "student of the run, SHA-256": train.outputs.digest,
        f"{WEIGHTS_FILE}, SHA-256": weights_sha256,
        "commit": train.commit or "not a git checkout",
        "versions": ", ".join(f"{name} {version}" for name, version in train.versions.items()),
    }


def _teacher(config: Config, digest: str) -> str:
    """What is known of the teacher where it still is."""
    info = find_teacher(config.teacher_folder, digest)
    if info is None:
        return "its folder is gone, or has another"
    texts = [f"{info.generator.title} generator of {info.generator.resolution} px"]
    if "images_seen" in info.origin:
        texts.append(f"trained on {info.origin['images_seen']:,} images seen")
    if "file" in info.origin:
        texts.append(f"imported from {Path(info.origin['file']).name}")
    return ", ".join(texts)


def _network(config: Config) -> str:
    architecture = config.train.student.architecture
    return _SIZES.get(architecture, architecture.removeprefix("timm:"))

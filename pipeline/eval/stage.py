"""`python -m pipeline eval CONFIG`: student -> results, beside two baselines measured in the same
run.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from pipeline.config import Config
from pipeline.method_config import DiscriminatorConfig
from pipeline.progress import progress_bar
from pipeline.record import (
    Recipe,
    Record,
    file_digest,
    find_complete,
    is_intact,
    require_record,
    write_record,
)
from pipeline.stores import pool_shards, real_shards
from shards.atomic import write_atomic
from shards.errors import NotApplicable, UserError
from shards.reader import ShardReader
from shards.verify import verified

RESULTS_FILE = "results.json"
NEIGHBOURS_FILE = "neighbours.json"
_NUM_QUERIES = 10
_NUM_NEIGHBOURS = 8
_MAX_SYNTHETIC = 20_000


def find(config: Config) -> Record | None:
    """Record of this run's evaluation, None if it is still to be made or its results are gone."""
    record = find_complete(config.run_dir / "eval", _recipe(config))
    return record if is_intact(config.run_dir / RESULTS_FILE, record) else None


def run(config: Config) -> None:
    """Probe all representations; `results.json` comes last."""
    recipe = _recipe(config)
    folder = config.run_dir / "eval"
    train = require_record(config.run_dir / "train", "train")
    lesson = {
        "method": config.train.method.name,
        "variant": config.train.variant,
        "pool_size": train.outputs["pool_size"],
    }
    rows = []
    for result in _results(config):
        rows.append({**asdict(result), **lesson})
    write_atomic(config.run_dir / RESULTS_FILE, json.dumps(rows, indent=2) + "\n")
    write_record(folder, recipe, {RESULTS_FILE: file_digest(config.run_dir / RESULTS_FILE)})


def _results(config: Config) -> Iterator[Any]:
    """Of every probe of every representation, with a progress bar."""
    from pipeline.device import choose_device
    from pipeline.eval.probes import run_probes, run_sgd_probe

    device = choose_device(config.ray.device)
    images = _labelled_images(config)
    names = {"linear", "knn"} & set(config.eval.probes)
    num_subjects = 3 if config.eval.baselines else 1
    with progress_bar("probes") as bar:
        task = bar.add_task("eval", total=2 * len(names) * num_subjects, note="")
        for subject in _subjects(config, images, device):
            representation = subject.representation
            for result in run_probes(representation, config.eval) if names else ():
                yield result
                bar.update(task, advance=1, note=_note(result))
            if representation.name == "student":
                neighbours = json.dumps(_neighbours(config, representation))
                write_atomic(config.run_dir / "eval" / NEIGHBOURS_FILE, neighbours)
            if "linear_sgd" in config.eval.probes and subject.backbone is not None:
                num_images = config.eval.sgd_epochs * len(images.train_rows)
                epochs = bar.add_task("  linear_sgd", total=num_images, note="")

                def report(position: int, total: int, note: str, epochs: Any = epochs) -> None:
                    bar.update(epochs, completed=position, note=note)

                name = representation.name
                result = run_sgd_probe(name, subject.backbone, images, config, device, report)
                bar.update(epochs, note=_note(result))
                yield result


def _note(result: Any) -> str:
    return f"{result.representation} {result.probe} {result.labels} {result.top1_mean:.1f}"


def describe(config: Config, record: Record) -> str:
    """One line for the terminal."""
    return str(config.run_dir / RESULTS_FILE)


def _recipe(config: Config) -> Recipe:
    real = require_record(config.run_dir / "real", "real", config.real)
    student = require_record(config.run_dir / "train", "train", config.train)
    if real.outputs["num_samples"]["test"] == 0 or not real.outputs["class_names"]:
        raise NotApplicable(
            "real.path: evaluation needs labelled images, one sub-folder per class under train/ "
            "and test/"
        )
    inputs = {
        "student": student.outputs["student.safetensors"],
        "real train": real.outputs["digests"]["train"],
        "real test": real.outputs["digests"]["test"],
    }
    if config.train.reads_pool:
        pool = require_record(config.run_dir / "generate", "generate", config.generate)
        inputs["pool"] = pool.outputs["digest"]
    return Recipe.of("eval", config.eval, inputs)


def _reader(config: Config, split: str) -> ShardReader:
    return verified(real_shards(config, split).open())


def _labelled_images(config: Config) -> Any:
    """The labelled train images and all test images; raises UserError if they allow no
    evaluation.
    """
    from pipeline.eval.labelled_views import LabelledImages

    train, test = _reader(config, "train"), _reader(config, "test")
    train_labels, test_labels = (
        reader.gather("label", np.arange(len(reader))) for reader in (train, test)
    )
    rows = np.flatnonzero(train_labels >= 0)
    if len(np.unique(train_labels[rows])) < 2 or (test_labels < 0).any():
        raise UserError(
            "real.path: evaluation needs train images of at least two classes and only labelled "
            "test images"
        )
    return LabelledImages(train, rows, train_labels[rows], test, test_labels)


@dataclass(frozen=True)
class _Subject:
    """What is probed, and the network that made it, if one did."""

    representation: Any
    backbone: Any


def _subjects(config: Config, images: Any, device: Any) -> Iterator[_Subject]:
    """Student and, where wanted, the same student untrained and raw pixels; of labelled images
    only.
    """
    from pipeline.backbone import build_backbone
    from pipeline.eval.extract import Representation, calibrate_batch_norm, extract, raw_pixels

    train, rows, test = images.train, images.train_rows, images.test

    def represent(name: str, backbone: Any) -> _Subject:
        arrays = [
            raw_pixels(reader, chosen)
            if backbone is None
            else extract(backbone, reader, config.train, device, chosen)
            for reader, chosen in ((train, rows), (test, np.arange(len(test))))
        ]
        labels = (images.train_labels, images.test_labels)
        representation = Representation(name, arrays[0], labels[0], rows, arrays[1], labels[1])
        return _Subject(representation, backbone)

    yield represent("student", load_student(config))
    if not config.eval.baselines:
        return
    untrained = build_backbone(config.train.student, config.train.seed)
    calibrate_batch_norm(untrained, train, config.train, device)
    yield represent("untrained_student", untrained)
    yield represent("raw_pixels", None)


def load_student(config: Config) -> Any:
    """What the run has trained, normalised images -> representation; or the discriminator that it
    took.
    """
    path = config.run_dir / "train" / "student.safetensors"
    if isinstance(config.train.method, DiscriminatorConfig):
        from pipeline.eval.discriminator import load_discriminator_backbone

        return load_discriminator_backbone(config, path)
    from pipeline.backbone import load_backbone

    return load_backbone(config.train.student, path)


def _neighbours(config: Config, student: Any) -> dict[str, Any]:
    """For a few test images, the nearest labelled train images and the nearest synthetic ones, by
    index.
    """
    from pipeline.device import choose_device
    from pipeline.eval.extract import extract
    from pipeline.eval.knn import nearest

    domains = {"real": student.train}
    if config.train.reads_pool:
        reader = verified(pool_shards(config, _MAX_SYNTHETIC).open().images)
        device = choose_device(config.ray.device)
        domains["synthetic"] = extract(load_student(config), reader, config.train, device)
    queries = np.linspace(0, len(student.test) - 1, _NUM_QUERIES).astype(int)
    found: dict[str, Any] = {"test": queries.tolist()}
    for domain, keys in domains.items():
        similarities, indices = nearest(student.test[queries], keys, _NUM_NEIGHBOURS)
        if domain == "real":
            indices = student.train_rows[indices]
        found[domain] = {"indices": indices.tolist(), "cosines": similarities.tolist()}
    return found

"""Evaluation of real images of which only some are labelled, as STL-10's are."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import save_file

from pipeline.config.root import Config
from pipeline.eval import stage
from pipeline.eval.probes import probe
from pipeline.eval.probes import run as run_module
from pipeline.eval.probes.probe import ProbeJob, Score
from pipeline.records.digests import file_digest
from pipeline.records.products import RealImages, Student
from pipeline.records.record import write_record
from pipeline.records.spec import Spec
from pipeline.student.backbone import build_backbone
from shards.errors import UserError
from shards.manifest import Manifest, shard_name, write_manifest
from shards.reader import ShardReader
from shards.schema import encode_meta, real_schema
from shards.storage import Folder
from shards.writer import write_shard
from tests.support.tiny_shards import RESOLUTION, real_arrays

LABELLED = np.arange(1, 60, 2)
"""Rows of the mixed train split; those between are unlabelled."""


def write_split(folder: Path, images: np.ndarray, labels: np.ndarray) -> str:
    """One shard and its manifest; returns the digest of its content."""
    schema, place = real_schema(RESOLUTION), Folder.at(folder)
    meta = encode_meta({"index": row, "label": int(label)} for row, label in enumerate(labels))
    batch = {"image": images, "label": labels, "meta": meta}
    manifest = Manifest(schema, (write_shard(place, shard_name(0), schema, 0, [batch]),))
    write_manifest(place, manifest)
    return ShardReader(place, remedy="").digest


def make_run(
    folder: Path, train: tuple[np.ndarray, np.ndarray], test: tuple[np.ndarray, np.ndarray]
) -> Config:
    """A run that has real images and an untrained student, ready to be evaluated."""
    config = Config.model_validate(
        {
            "name": "mixed",
            "paths": {"store": str(folder / "store"), "runs": folder / "runs"},
            "hardware": {"device": "cpu"},
            "real": {"source": "stl10", "path": folder, "resolution": RESOLUTION},
            "train": {
                "images": "real",
                "method": {"name": "vicreg"},
                "student": {"width": 4},
            },
            "eval": {
                "probes": ["knn"],
                "knn_k": 3,
                "few_labels": ["1_per_class", "2_per_class"],
                "seeds": [0],
            },
        }
    )
    splits = {"train": train, "test": test}
    digests = {name: write_split(folder / "store" / name, *part) for name, part in splits.items()}
    sizes = {name: len(labels) for name, (_, labels) in splits.items()}
    images = RealImages(str(folder / "store"), sizes, ("a", "b", "c", "d"), digests)
    write_record(config.run_dir / "real", Spec.of("real", config.real, {}), images)
    student = config.run_dir / "train" / "student.safetensors"
    student.parent.mkdir()
    save_file(build_backbone(config.train.student, seed=1).state_dict(), student)
    product = Student(file_digest(student), pool_size=0)
    write_record(config.run_dir / "train", Spec.of("train", config.train, {}), product)
    return config


def evaluated(config: Config) -> tuple[dict[tuple[str, ...], float], Any]:
    """Accuracies by representation, probe and labels; and the neighbours."""
    stage.run(config)
    rows = json.loads((config.run_dir / "results.json").read_text())
    results = {
        (row["representation"], row["probe"], row["labels"]): row["top1_mean"] for row in rows
    }
    return results, json.loads((config.run_dir / "eval" / "neighbours.json").read_text())


@pytest.mark.slow
def test_eval_probes_and_finds_neighbours_among_labelled_images_only(tmp_path: Path) -> None:
    known, test = (real_arrays(count, seed) for seed, count in enumerate((30, 20)))
    images = np.zeros((60, *known["image"].shape[1:]), dtype=np.uint8)
    labels = np.full(60, -1, dtype=np.int64)
    images[LABELLED], labels[LABELLED] = known["image"], known["label"]
    images[LABELLED - 1] = test["image"][0]  # the nearest neighbours, were they taken
    test_split = test["image"], test["label"]
    mixed, near = evaluated(make_run(tmp_path / "mixed", (images, labels), test_split))
    pure, expected = evaluated(
        make_run(tmp_path / "pure", (known["image"], known["label"]), test_split)
    )
    compared = {key for key in pure if key[0] != "untrained_student"}  # calibrated on all images
    assert {key: mixed[key] for key in compared} == {key: pure[key] for key in compared}
    assert near["real"]["indices"] == LABELLED[np.array(expected["real"]["indices"])].tolist()


def test_eval_of_one_labelled_class_beside_unlabelled_images_is_refused(tmp_path: Path) -> None:
    arrays = real_arrays(8)
    labels = np.array([2, -1] * 4)
    config = make_run(tmp_path, (arrays["image"], labels), (arrays["image"], arrays["label"]))
    with pytest.raises(UserError, match=r"real\.path: .*two classes"):
        stage.run(config)


def test_eval_goes_on_behind_what_it_has_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrays = real_arrays(30)
    part = (arrays["image"], arrays["label"])
    config = make_run(tmp_path, part, part)
    fit, fitted = probe.run_job, []

    def fit_some(job: ProbeJob, *arguments: Any) -> Score:
        fitted.append(job)
        if len(fitted) == 5:
            raise KeyboardInterrupt
        return fit(job, *arguments)

    monkeypatch.setattr(run_module, "run_job", fit_some)
    with pytest.raises(KeyboardInterrupt):
        stage.run(config)
    results, _ = evaluated(config)
    assert len(results) == 9  # three subjects, three probes each
    assert len(fitted) == 10, "one of them was interrupted, none was fitted twice"


def test_eval_of_other_labelled_sets_is_to_do_and_of_anything_else_refused(tmp_path: Path) -> None:
    arrays = real_arrays(30)
    part = (arrays["image"], arrays["label"])
    config = make_run(tmp_path, part, part)
    stage.run(config)
    record = stage.find(config)
    assert record is not None
    added = replace(record.spec, inputs={**record.inputs, "set mine train": "0" * 64})
    write_record(config.run_dir / "eval", added, record.outputs)
    assert stage.find(config) is None
    other = replace(record.spec, inputs={**record.inputs, "student": "0" * 64})
    write_record(config.run_dir / "eval", other, record.outputs)
    with pytest.raises(UserError, match="made with input student"):
        stage.find(config)

"""Fine-tuning from a run's student to `results.json`, through the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.config.root import Config
from pipeline.records.products import Student
from pipeline.records.record import read_record
from pipeline.results.ledger import LEDGER, read_ledger
from tests.support.command_line import assert_mistake, run, succeed
from tests.support.dense_sets import QUICK, WRITERS, make_run

pytestmark = pytest.mark.slow

LEARNS: dict[str, dict[str, Any]] = {
    "detection": {
        "steps": 60,
        "batch": 2,
        "learning_rate": 0.04,
        "smallest_anchor": 16,
        "batch_norm": "trained",
    },
    "segmentation": {"steps": 80},
    "normals": {"steps": 120, "learning_rate": 0.05},
}
"""Settings with which the colours are learned in seconds."""


def write_config(folder: Path, task: str, **changes: Any) -> tuple[Path, Config]:
    """A run with a student and the task's data, as a file."""
    config = make_run(folder, task, **{**QUICK, **changes})
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    return path, config


@pytest.mark.parametrize(
    ("task", "name", "least", "most"),
    [
        pytest.param("detection", "AP50", 30, 100, marks=pytest.mark.slow),
        ("segmentation", "mean_iou", 0.6, 1),
        ("normals", "mean_deg", 0, 15),
    ],
)
def test_finetune_learns_what_colours_say(
    tmp_path: Path, task: str, name: str, least: float, most: float
) -> None:
    """Untrained, the three score 1, 0 and 45; one direction for all is off by 40."""
    WRITERS[task](tmp_path / "data")
    path, config = write_config(tmp_path, task, **LEARNS[task])
    succeed("finetune", path)
    folder = config.run_dir / f"finetune-{task}"
    results = json.loads((folder / "results.json").read_text())
    assert least <= results["metrics"][name] <= most
    train = read_record(config.run_dir / "train", Student)
    assert train is not None
    assert results["student"] == train.outputs.digest
    assert (results["task"], results["seed"], results["pool_size"]) == (task, 0, 0)
    assert f"{LEARNS[task]['steps']} steps" in results["protocol"]
    left = {child.name for child in config.run_dir.iterdir()}
    assert left == {folder.name, "train", "log.jsonl"}


def test_finetune_does_nothing_twice_and_names_what_differs(tmp_path: Path) -> None:
    WRITERS["normals"](tmp_path / "data")
    path, config = write_config(tmp_path, "normals", steps=2)
    succeed("finetune", path)
    folder = config.run_dir / "finetune-normals"
    before = {file.name: file.stat().st_mtime_ns for file in folder.iterdir()}
    code, _, errors = run("finetune", path)
    assert code == 0
    assert "done" in errors
    assert before == {file.name: file.stat().st_mtime_ns for file in folder.iterdir()}
    assert_mistake(run("finetune", path, "finetune.seed=1"), "finetune.seed=0 (now 1)")
    (folder / "results.json").unlink()
    code, _, errors = run("finetune", path, "--dry-run")
    assert (code, "to do" in errors) == (0, True)


def test_finetune_gives_the_ledger_its_numbers_back_without_training(tmp_path: Path) -> None:
    WRITERS["normals"](tmp_path / "data")
    path, config = write_config(tmp_path, "normals", steps=2)
    succeed("finetune", path)
    (part,) = (config.paths.runs / LEDGER).glob("*.parquet")
    before = read_ledger(config.paths.runs)
    results = config.run_dir / "finetune-normals" / "results.json"
    written_at = results.stat().st_mtime_ns
    part.write_bytes(b"half")
    succeed("finetune", path)
    assert [n.value for n in read_ledger(config.paths.runs)] == [n.value for n in before]
    assert results.stat().st_mtime_ns == written_at


def test_finetune_notices_other_data(tmp_path: Path) -> None:
    WRITERS["normals"](tmp_path / "data")
    path, _ = write_config(tmp_path, "normals", steps=1)
    succeed("finetune", path)
    (tmp_path / "data" / "gt_sets" / "train.txt").write_text("0001\n0002\n")
    assert_mistake(run("finetune", path), "input normals train")


def test_finetune_tasks_of_one_run_are_apart(tmp_path: Path) -> None:
    for task in ("segmentation", "normals"):
        WRITERS[task](tmp_path / "data")
        path, config = write_config(tmp_path, task, steps=1)
        succeed("finetune", path)
    for task in ("segmentation", "normals"):
        assert (config.run_dir / f"finetune-{task}" / "results.json").exists()


def test_finetune_names_what_is_missing(tmp_path: Path) -> None:
    path, config = write_config(tmp_path, "segmentation")
    assert_mistake(run("finetune", path), "finetune.root", "ADEChallengeData2016")
    assert_mistake(run("finetune", path, "finetune.root=null"), "finetune.root: set it")
    assert_mistake(
        run("finetune", path, "name=other"),
        config.paths.runs / "other" / "train",
        f"python -m pipeline train {path} name=other",
    )


def test_finetune_refuses_students_that_are_no_resnets(tmp_path: Path) -> None:
    path, _ = write_config(tmp_path, "segmentation")
    student = "train.student={architecture: convnext_tiny}"
    assert_mistake(run("finetune", path, student), "convnext_tiny", "resnet18")
    method = "train.method={name: discriminator}"
    assert_mistake(run("finetune", path, method), "discriminator", "resnet18")

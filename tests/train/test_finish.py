"""Trainings that end before their time: by hand, and by patience."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from pipeline.config.file import load_config
from pipeline.config.train import TrainConfig
from pipeline.engine.state import load_state
from pipeline.results.lineage import read_lineage
from pipeline.train.loop import CHECKPOINT_FILE, STUDENT_FILE
from pipeline.train.monitor.names import KNN_TOP1
from pipeline.train.monitor.patience import Patience
from tests.support.command_line import assert_mistake
from tests.support.stored_pools import Site, make_site
from tests.support.trainings import CPU, interrupted_when_saved

pytestmark = pytest.mark.slow
TINY = (
    "train.epochs=4",
    "train.global_batch=8",
    "train.method.name=vicreg",
    "train.images=real",
    "train.student.width=4",
    "train.student.embedding_dim=8",
    "train.student.projector_layers=2",
    "train.checkpoint_interval_s=0",
)
PATIENT = (
    *TINY,
    "train.epochs=60",
    "train.patience=2",
    "train.monitor.every_epochs=1",  # at lines of metrics, which are ten steps apart
    "train.learning_rate=1.0e-30",
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return make_site(tmp_path_factory.mktemp("finish"))


def folder_of(site: Site, name: str) -> Path:
    return site.runs / name / "train"


def record_of(site: Site, name: str) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((folder_of(site, name) / "record.json").read_text())
    return record


def interrupt(site: Site, monkeypatch: pytest.MonkeyPatch, *settings: str) -> None:
    """A training that has saved once."""
    site.stage("real", *settings)
    with interrupted_when_saved(monkeypatch):
        assert site.try_stage("train", *settings)[0] == 130


def test_finished_by_hand_the_present_student_is_the_runs(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ("name=byhand", *TINY)
    interrupt(site, monkeypatch, *settings)
    assert "stopped after 1 of 4 epochs" in site.stage("finish", *settings).errors
    folder = folder_of(site, "byhand")
    state = load_state(folder / CHECKPOINT_FILE, CPU)
    assert state is not None
    for name, value in load_file(folder / STUDENT_FILE).items():
        assert torch.equal(value, state["method"][f"backbone.{name}"])
    assert record_of(site, "byhand")["outputs"]["stopped_at_epoch"] == 1
    for command in ("train", "finish"):
        assert "done: " in site.stage(command, *settings).errors
    config = load_config(site.config, [*site.places, *settings])
    stopped = read_lineage(config, "cpu")
    assert stopped.epochs == 1
    site.stage("real", "name=whole", *TINY)
    site.stage("train", "name=whole", *TINY)
    whole = read_lineage(load_config(site.config, [*site.places, *TINY, "name=whole"]), "cpu")
    assert (whole.epochs, record_of(site, "whole")["outputs"]["stopped_at_epoch"]) == (4, None)
    assert whole.training_digest != stopped.training_digest


def test_finishing_what_was_not_begun_or_otherwise_is_one_line(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ("name=none", *TINY)
    site.stage("real", *settings)
    assert_mistake(site.try_stage("finish", *settings), "no training was begun", "train")
    interrupt(site, monkeypatch, *settings)
    result = site.try_stage("finish", *settings, "train.seed=5")
    assert_mistake(result, "train.seed=0 (now 5)")


def test_patience_ends_a_training_whose_student_gets_no_better(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.stage("real", "name=patient", *PATIENT)
    result = site.stage("train", "name=patient", *PATIENT)
    assert "stopped after 30 of 60 epochs" in result.errors
    assert record_of(site, "patient")["outputs"]["stopped_at_epoch"] == 30
    again = ("name=again", *PATIENT)
    interrupt(site, monkeypatch, *again)
    site.stage("train", *again)
    names = (STUDENT_FILE, "metrics.jsonl")
    for name in names:
        found, expected = (folder_of(site, run) / name for run in ("again", "patient"))
        assert found.read_bytes() == expected.read_bytes()


def look(patience: Patience, *accuracies: float | None) -> list[bool]:
    found = []
    for accuracy in accuracies:
        patience.look({} if accuracy is None else {KNN_TOP1: accuracy})
        found.append(patience.is_over)
    return found


def test_patience_counts_looks_in_a_row_that_are_no_better_than_the_best() -> None:
    assert look(Patience(2, CPU, None), 50, 40, 51, 51, 50) == [False] * 4 + [True]
    assert look(Patience(2, CPU, None), 50, None, 40, None) == [False] * 4
    assert not any(look(Patience(0, CPU, None), 50, 40, 30, 20))


def test_patience_goes_on_from_its_state() -> None:
    first = Patience(2, CPU, None)
    look(first, 50, 40)
    assert look(Patience(2, CPU, first.state_dict()), 45) == [True]


def test_patience_without_looks_is_refused() -> None:
    with pytest.raises(ValueError, match=r"monitor\.every_epochs=0"):
        TrainConfig.model_validate({"patience": 2, "monitor": {"every_epochs": 0}})

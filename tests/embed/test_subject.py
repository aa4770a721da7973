"""A run's student, and the same from an exported folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from pipeline.embed.subject import open_subject
from pipeline.export.folder import write_export
from pipeline.records.products import student_file
from shards.errors import UserError
from tests.support.embedding_runs import MEAN, STD, STORED, VIEW, StudentRun


@pytest.fixture
def exported(student_run: StudentRun, tmp_path: Path) -> Path:
    return write_export(student_run.config, tmp_path / "exported").folder


def refuse(place: Path, *changes: str) -> str:
    with pytest.raises(UserError) as raised:
        open_subject(place, changes)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_exported_folder_is_the_runs_student_with_its_preprocessing(
    student_run: StudentRun, exported: Path
) -> None:
    ours, theirs = student_run.subject(), open_subject(exported, ["hardware.device=cpu"])
    assert theirs.network.digest == ours.network.digest
    for subject in (ours, theirs):
        assert (subject.network.pixel_mean, subject.network.pixel_std) == (MEAN, STD)
        assert (subject.side, subject.config.real.resolution) == (VIEW, STORED)
    assert ours.origin["run"] == "tiny"
    assert theirs.origin["export"] == "exported"


def test_exported_folder_keeps_things_where_the_command_says(exported: Path) -> None:
    config = open_subject(exported, ["paths.runs=elsewhere", "real.background=[0,0,0]"]).config
    assert config.run_dir == Path("elsewhere/exported")
    assert config.real.background == (0, 0, 0)
    assert open_subject(exported, []).config.run_dir == Path("runs/exported")


def test_export_of_before_sizes_were_said_brings_images_to_the_views(exported: Path) -> None:
    path = exported / "config.json"
    described = json.loads(path.read_text())
    del described["stored_size"]
    path.write_text(json.dumps(described))
    assert open_subject(exported, []).config.real.resolution == VIEW


def test_exported_folder_says_itself_what_the_student_is(exported: Path, tmp_path: Path) -> None:
    assert refuse(exported, "train.student.width=8").startswith("train.student.width=8: ")
    (exported / "model.safetensors").unlink()
    assert "model.safetensors: is missing" in refuse(exported)
    (exported / "config.json").write_text("{}")
    assert "config.json: not as " in refuse(exported)
    (tmp_path / "empty").mkdir()
    assert "a folder without config.json" in refuse(tmp_path / "empty")


def test_run_without_its_student_is_refused(student_run: StudentRun) -> None:
    path = student_file(student_run.config)
    path.write_bytes(path.read_bytes()[:-1])
    assert refuse(student_run.config_file).startswith(f"{path}: missing or not the student")
    assert "train stage has not finished" in refuse(student_run.config_file, "name=other")
    assert "train.student.width=4 (now 8)" in refuse(
        student_run.config_file, "train.student.width=8"
    )


def test_images_of_another_size_than_the_student_has_learned_from_are_refused(
    student_run: StudentRun,
) -> None:
    message = refuse(student_run.config_file, "real.resolution=32")
    assert message == "real.resolution=32: the run's images have 16 px; leave it out"


def test_description_says_what_made_the_embeddings(student_run: StudentRun) -> None:
    subject = student_run.subject()
    description = json.loads(json.dumps(subject.description))
    assert description["run"] == "tiny"
    assert len(description["student"]) == 64
    assert description["view_size"] == VIEW
    assert description["pixel_mean"] == list(MEAN)
    assert torch.__version__.startswith(description["versions"]["torch"])
    assert "not normalised" in description["embeddings"]

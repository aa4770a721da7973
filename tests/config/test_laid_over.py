"""Files laid over a config: their name, their order, and whose teacher is distilled."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.config.file import load_config
from shards.errors import UserError

METHODS = Path("configs/methods")


def test_load_config_file_laid_over_another_appends_its_name_and_takes_its_teacher() -> None:
    config = load_config(Path("configs/folder.yaml"), [str(METHODS / "squeeze.yaml")])
    assert config.name == "folder-squeeze"
    assert config.teacher.checkpoint == Path("runs/folder/teacher")
    assert config.train.images == "synthetic"
    assert config.train.epochs == load_config(Path("configs/folder.yaml")).train.epochs
    named = load_config(
        Path("configs/folder.yaml"),
        [str(METHODS / "squeeze.yaml"), "name=mine", "paths.runs=elsewhere"],
    )
    assert named.name == "mine"
    assert named.teacher.checkpoint == Path("elsewhere/folder/teacher")


def test_load_config_null_of_a_change_lets_a_run_with_a_file_train_its_own_teacher(
    tmp_path: Path,
) -> None:
    squeeze = str(METHODS / "squeeze.yaml")
    (tmp_path / "own.yaml").write_text("teacher: {checkpoint: null}")
    for changes in (
        [squeeze, "teacher.checkpoint=null"],
        ["teacher.checkpoint=null", squeeze],
        [squeeze, str(tmp_path / "own.yaml")],
    ):
        for base in ("folder", "digits"):
            config = load_config(Path(f"configs/{base}.yaml"), changes)
            assert config.teacher.checkpoint is None
            assert config.trained_teacher_folder == config.run_dir / "teacher"


def test_load_config_file_laid_over_a_run_trains_the_teacher_of_that_run_in_its_folder() -> None:
    squeeze = str(METHODS / "squeeze.yaml")
    base = load_config(Path("configs/cifar10.yaml"))
    beside = load_config(Path("configs/cifar10.yaml"), [squeeze])
    assert beside.teacher_folder == beside.trained_teacher_folder == base.trained_teacher_folder
    given = load_config(Path("configs/cifar10.yaml"), [squeeze, "teacher.checkpoint=t"])
    assert (given.teacher_folder, given.trained_teacher_folder) == (
        Path("t"),
        given.run_dir / "teacher",
    )


def test_load_config_changes_are_applied_in_their_order() -> None:
    squeeze = str(METHODS / "squeeze.yaml")
    for changes, images in (
        (["train.images=both", squeeze], "synthetic"),
        ([squeeze, "train.images=both"], "both"),
    ):
        assert load_config(Path("configs/digits.yaml"), changes).train.images == images


def test_load_config_error_names_the_file_laid_over(tmp_path: Path) -> None:
    (tmp_path / "changes.yaml").write_text("train: {imagess: real}")
    with pytest.raises(UserError, match=r"changes\.yaml.*did you mean images"):
        load_config(Path("configs/digits.yaml"), [str(tmp_path / "changes.yaml")])
    with pytest.raises(UserError, match=r"none\.yaml: no such file"):
        load_config(Path("configs/digits.yaml"), [str(tmp_path / "none.yaml")])
    with pytest.raises(UserError, match=r"end in \.yaml"):
        load_config(Path("configs/digits.yaml"), ["configs/methods/squeeze"])

"""A config that goes to workers elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.config.root import Config


def test_places_of_an_anchored_config_are_the_same_from_any_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = Config.model_validate(
        {
            "name": "mine",
            "teacher": {"checkpoint": "teachers/digits"},
            "transfer": {"root": "data"},
        }
    )
    anchored = config.anchored()
    assert config.run_dir == Path("runs/mine")
    monkeypatch.chdir("/")
    assert str(anchored.store) == str(tmp_path / "store")
    assert anchored.run_dir == tmp_path / "runs" / "mine"
    assert anchored.teacher_folder == tmp_path / "teachers" / "digits"
    assert anchored.transfer.root == tmp_path / "data"
    remote = config.model_copy(
        update={"paths": config.paths.model_copy(update={"store": "s3://b"})}
    )
    assert str(remote.anchored().store) == "s3://b"

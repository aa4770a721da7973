"""Labelled sets of one's own through the command line: packed once, beside the run's images."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from tests.support.command_line import Result, assert_mistake, run, succeed
from tests.support.real_images import write_folder, write_zip
from tests.support.stored_pools import snapshot


def make_run(folder: Path, **sets: object) -> Path:
    """A config with the digits as the run's images."""
    path = folder / "tiny.yaml"
    config = {
        "name": "tiny",
        "paths": {"store": str(folder / "store"), "runs": str(folder / "runs")},
        "ray": {"pack_workers": 0},
        "real": {"resolution": 8},
        "eval": {"sets": sets},
    }
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return path


def two_sets(folder: Path) -> Path:
    whole = write_folder(folder / "whole", {f"{'ab'[n % 2]}/{n}.png": n for n in range(8)})
    train = write_folder(folder / "train", {f"{'ab'[n % 2]}/{n}.png": n for n in range(4)})
    test = write_zip(folder / "test.zip", {f"{'ab'[n % 2]}/{n}.png": n for n in range(4, 7)})
    return make_run(folder, whole=str(whole), mine={"train": str(train), "test": str(test)})


def said(result: Result, name: str) -> str:
    """The last line of a set."""
    start = f"real      set {name}"
    return [line for line in result.errors.splitlines() if line.startswith(start)][-1]


def test_sets_are_packed_with_the_images_of_the_run_and_once(tmp_path: Path) -> None:
    path = two_sets(tmp_path)
    first = succeed("real", path)
    assert "finished: " in said(first, "whole")
    assert said(first, "whole").endswith("8 train + 0 test images of 8 px, cross-validated")
    assert said(first, "mine").endswith("4 train + 3 test images of 8 px")
    before = snapshot(tmp_path / "store")
    second = succeed("real", path)
    assert said(second, "whole").startswith("real      set whole done: ")
    assert said(second, "mine").startswith("real      set mine done: ")
    assert snapshot(tmp_path / "store") == before
    for name in ("whole", "mine"):
        record = tmp_path / "runs" / "tiny" / "sets" / name / "real" / "record.json"
        assert Path(json.loads(record.read_text())["outputs"]["folder"]).exists()


def test_dry_run_says_what_is_to_do_and_packs_nothing(tmp_path: Path) -> None:
    path = two_sets(tmp_path)
    for stage in ("real", "eval"):
        result = succeed(stage, path, "--dry-run")
        assert said(result, "whole") == "real      set whole to do"
        assert said(result, "mine") == "real      set mine to do"
    assert not (tmp_path / "runs").exists()
    assert not (tmp_path / "store" / "real").exists()
    succeed("real", path)
    assert "set mine done" in said(succeed("run", path, "--dry-run"), "mine")
    result = succeed("real", path, f"eval.sets.mine.test={tmp_path / 'absent'}", "--dry-run")
    assert "set mine waits: eval.sets.mine.test: " in said(result, "mine")


def test_evaluation_packs_a_set_that_was_added(tmp_path: Path) -> None:
    path = two_sets(tmp_path)
    succeed("real", path, "eval.sets={}")
    result = run("eval", path)
    assert "set mine finished" in said(result, "mine")
    assert_mistake(result, "the train stage has not finished yet")


@pytest.mark.parametrize("name", ["real", "eval", "run"])
def test_mistake_in_a_set_ends_a_command_before_anything_is_trained(
    tmp_path: Path, name: str
) -> None:
    path = make_run(tmp_path, mine=str(write_folder(tmp_path / "mine", {"1.png": 1, "2.png": 2})))
    for _ in range(2):
        assert_mistake(run(name, path), "eval.sets.mine: no labels in ", "label_field")

"""Trainings through the command line that are killed and typed again."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.command_line import start, succeed
from tests.support.workspace import Workspace

pytestmark = pytest.mark.slow


def test_train_killed_at_any_moment_ends_as_an_undisturbed_run(workspace: Workspace) -> None:
    for name in ("straight", "killed"):
        succeed("real", workspace.config, f"name={name}")
        succeed("generate", workspace.config, f"name={name}")
    succeed("train", workspace.config, "name=straight", "train.epochs=8")
    killed = ("train", workspace.config, "name=killed", "train.epochs=8")
    folder = workspace.folder / "runs" / "killed" / "train"
    metrics = folder / "metrics.jsonl"
    for kill_after in (1, 2):
        with start(*killed) as run:
            run.wait_until(lambda count=kill_after: num_lines(metrics) >= count)
            run.kill()
    assert not (folder / "record.json").exists()
    succeed(*killed)
    straight = workspace.folder / "runs" / "straight" / "train"
    for name in ("student.safetensors", "metrics.jsonl"):
        assert (folder / name).read_bytes() == (straight / name).read_bytes()


def num_lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0

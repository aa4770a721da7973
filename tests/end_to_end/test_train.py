"""Trainings through the command line: killed and typed again, and in several processes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.command_line import command, run_process, start, succeed
from tests.support.workspace import Workspace

pytestmark = pytest.mark.slow


def test_train_killed_at_any_moment_ends_as_an_undisturbed_run(workspace: Workspace) -> None:
    for name in ("straight", "killed"):
        succeed("real", workspace.config, f"name={name}")
        succeed("generate", workspace.config, f"name={name}")
    succeed("train", workspace.config, "name=straight", "train.epochs=4")
    killed = ("train", workspace.config, "name=killed", "train.epochs=4")
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


def torchrun(workspace: Workspace, *overrides: str) -> None:
    """Train in two processes that torchrun starts."""
    python, *words = command("train", workspace.config, *overrides)
    done = run_process([python, "-m", "torch.distributed.run", "--nproc_per_node=2", *words])
    assert done.code == 0, done.errors


@pytest.mark.ray
def test_two_workers_of_ray_train_and_of_torchrun_finish_the_same_student(
    workspace: Workspace,
) -> None:
    for name in ("ray", "torchrun"):
        succeed("real", workspace.config, f"name={name}")
        succeed("generate", workspace.config, f"name={name}")
    on_ray = ("name=ray", "ray.train_workers=2", "train.epochs=1")
    with start("train", workspace.config, *on_ray) as run:  # its library warns of its own ways
        code, _, errors = run.result()
        assert code == 0, errors
    by_torchrun = ("name=torchrun", "train.epochs=1")
    torchrun(workspace, *by_torchrun)
    assert "done" in succeed("train", workspace.config, *by_torchrun).errors
    ours, theirs = (
        workspace.folder / "runs" / name / "train" / "student.safetensors"
        for name in ("ray", "torchrun")
    )
    assert ours.read_bytes() == theirs.read_bytes()

"""The whole road through the command line, and what happens when it is typed again."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from tests.support.command_line import command, run_process, start, succeed
from tests.support.workspace import Workspace

pytestmark = pytest.mark.slow
ON_RAY = ("ray.render_workers=2", "ray.eval_workers=2", "eval.seeds=[0]")
IMPORTED = """
import sys
from pipeline.__main__ import main
code = main()
print("imported", [name for name in ("torch", "ray") if name in sys.modules])
sys.exit(code)
"""
ROWS = {
    (representation, probe, labels)
    for representation in ("student", "raw_pixels", "untrained_student")
    for probe in ("linear", "knn")
    for labels in ("all", "10_per_class")
}


@pytest.mark.ray
def test_run_from_nothing_writes_results_and_report_and_then_does_nothing(
    workspace: Workspace,
) -> None:
    succeed("run", workspace.config, *ON_RAY)
    run = workspace.folder / "runs" / "tiny"
    rows = json.loads((run / "results.json").read_text())
    assert {(row["representation"], row["probe"], row["labels"]) for row in rows} == ROWS
    assert all(0 <= row["top1_mean"] <= 100 and row["top1_std"] >= 0 for row in rows)
    assert all({"seeds", "protocol"} <= set(row) for row in rows)

    page = (run / "report.html").read_text()
    assert not re.search(r"(?:src|href)=[\"'](?!data:)", page), "the page must be self-contained"

    before = {
        path: path.stat().st_mtime_ns for path in workspace.folder.rglob("*") if path.is_file()
    }
    again = ("run", str(workspace.config), *ON_RAY, "hardware.compile=off")
    second = run_process([sys.executable, "-c", IMPORTED, *again])
    after = {
        path: path.stat().st_mtime_ns for path in workspace.folder.rglob("*") if path.is_file()
    }
    assert second.code == 0, second.errors
    assert after == before
    assert "imported []" in second.out


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

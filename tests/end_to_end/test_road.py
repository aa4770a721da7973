"""The whole road through the command line, and what happens when it is typed again."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest

from tests.support.workspace import ROOT, Workspace, environment

ON_RAY = ("ray.render_workers=2", "ray.eval_workers=2")
ROWS = {
    (representation, probe, labels)
    for representation in ("student", "raw_pixels", "untrained_student")
    for probe in ("linear", "knn")
    for labels in ("all", "10_per_class")
}


@pytest.mark.slow
@pytest.mark.ray
def test_run_from_nothing_writes_results_and_report_and_then_does_nothing(
    workspace: Workspace,
) -> None:
    workspace.succeed("run", *ON_RAY)
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
    second = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys\nfrom pipeline.__main__ import main\ncode = main()\n"
            "print('imported', [name for name in ('torch', 'ray') if name in sys.modules])\n"
            "sys.exit(code)",
            *workspace.command("run", *ON_RAY, "hardware.compile=off")[3:],
        ],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    after = {
        path: path.stat().st_mtime_ns for path in workspace.folder.rglob("*") if path.is_file()
    }
    assert second.returncode == 0, second.stderr
    assert after == before
    assert "imported []" in second.stdout


@pytest.mark.slow
def test_train_killed_at_any_moment_ends_as_an_undisturbed_run(workspace: Workspace) -> None:
    for name in ("straight", "killed"):
        workspace.succeed("real", f"name={name}")
        workspace.succeed("generate", f"name={name}")
    workspace.succeed("train", "name=straight", "train.epochs=8")
    folder = workspace.folder / "runs" / "killed" / "train"
    for kill_after in (1, 2):
        process = subprocess.Popen(
            workspace.command("train", "name=killed", "train.epochs=8"),
            cwd=ROOT,
            env=environment(),
            stderr=subprocess.DEVNULL,
        )
        wait_for_lines(process, folder / "metrics.jsonl", kill_after)
        process.kill()
        process.wait()
    assert not (folder / "record.json").exists()
    workspace.succeed("train", "name=killed", "train.epochs=8")
    straight = workspace.folder / "runs" / "straight" / "train"
    for name in ("student.safetensors", "metrics.jsonl"):
        assert (folder / name).read_bytes() == (straight / name).read_bytes()


def wait_for_lines(process: subprocess.Popen[bytes], path, count: int) -> None:  # type: ignore[no-untyped-def]
    import time

    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if path.exists() and path.read_bytes().count(b"\n") >= count:
            return
        time.sleep(0.01)
    assert process.poll() is None, "the training ended before it could be killed"


def torchrun(workspace: Workspace, *overrides: str) -> list[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2"]
    return [*launcher, "-m", "pipeline", "train", str(workspace.config), *overrides]


@pytest.mark.slow
def test_torchrun_two_workers_gives_a_finished_student(workspace: Workspace) -> None:
    workspace.succeed("real")
    workspace.succeed("generate")
    done = subprocess.run(
        torchrun(workspace),
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "done" in workspace.succeed("train")


@pytest.mark.slow
@pytest.mark.ray
def test_ray_train_two_workers_equals_torchrun_two_workers(workspace: Workspace) -> None:
    for name in ("ray", "torchrun"):
        workspace.succeed("real", f"name={name}")
        workspace.succeed("generate", f"name={name}")
    workspace.succeed("train", "name=ray", "ray.train_workers=2", "train.epochs=1")
    subprocess.run(
        torchrun(workspace, "name=torchrun", "train.epochs=1"),
        cwd=ROOT,
        env={**environment(), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        check=True,
    )
    ours, theirs = (
        workspace.folder / "runs" / name / "train" / "student.safetensors"
        for name in ("ray", "torchrun")
    )
    assert ours.read_bytes() == theirs.read_bytes()

"""Generation on Ray and in one process: same bytes, whatever happens on the way."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.support.workspace import ROOT, Workspace, environment, tars

pytestmark = [pytest.mark.ray, pytest.mark.slow]
MANY = ("generate.num_samples=3000", "generate.samples_per_shard=50")


def test_generate_with_one_two_or_no_ray_workers_gives_the_same_bytes(workspace: Workspace) -> None:
    pools = []
    for workers in (0, 1, 2):
        store = workspace.folder / f"store{workers}"
        workspace.succeed("generate", f"ray.render_workers={workers}", f"paths.store={store}")
        pools.append(tars(store))
    assert len(pools[0]) == 2 * 3, "images and features"
    assert pools[0] == pools[1] == pools[2]


def test_generate_killed_and_typed_again_finishes_the_rest(workspace: Workspace) -> None:
    workspace.succeed("generate", *MANY, f"paths.store={workspace.folder / 'straight'}")
    process = subprocess.Popen(
        workspace.command("generate", *MANY, "ray.render_workers=2"),
        cwd=ROOT,
        env=environment(),
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    pool = workspace.folder / "store" / "teacher"
    wait_until(lambda: len(list(pool.rglob("*.tar"))) >= 10, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert len(list(pool.rglob("shard-*.tar"))) < 120
    rubbish = [*pool.rglob("*.tmp"), pool_folder(pool) / "images" / ".shard-000003.tar.0.tmp"]
    rubbish[-1].touch()
    for path in rubbish:
        os.utime(path, (0, 0))
    at_work = pool_folder(pool) / "images" / ".shard-000004.tar.1.tmp"
    at_work.touch()
    os.utime(at_work, (time.time() + 3600,) * 2)  # new still, however long this takes
    workspace.succeed("generate", *MANY, "ray.render_workers=2")
    assert tars(workspace.folder / "store") == tars(workspace.folder / "straight")
    assert list(pool.rglob("*.tmp")) == [at_work], "old rubbish goes, another run's files stay"
    assert "done" in workspace.succeed("generate", *MANY, "ray.render_workers=2")


def test_generate_with_a_killed_renderer_loses_nothing(workspace: Workspace) -> None:
    workspace.succeed("generate", *MANY, f"paths.store={workspace.folder / 'straight'}")
    process = subprocess.Popen(
        workspace.command("generate", *MANY, "ray.render_workers=2"),
        cwd=ROOT,
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_until(lambda: len(list((workspace.folder / "store").rglob("*.tar"))) >= 2, process)
    victims = renderers(process.pid)
    assert victims, "no renderer found"
    os.kill(victims[0], signal.SIGKILL)
    _, errors = process.communicate(timeout=200)
    assert process.returncode == 0, errors
    assert tars(workspace.folder / "store") == tars(workspace.folder / "straight")


def pool_folder(pools: Path) -> Path:
    (folder,) = pools.iterdir()
    return folder


def renderers(driver: int) -> list[int]:
    """Processes of this driver's Ray that are rendering now."""
    found = []
    for status in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if b"ray::_render_task" in status.read_bytes():
                pid = int(status.parent.name)
                if driver in ancestors(pid):
                    found.append(pid)
        except OSError:
            continue
    return found


def ancestors(pid: int) -> list[int]:
    chain = []
    while pid > 1:
        pid = int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
        chain.append(pid)
    return chain


def wait_until(condition, process: subprocess.Popen) -> None:  # type: ignore[no-untyped-def, type-arg]
    deadline = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, "ended too early"
        assert time.monotonic() < deadline
        time.sleep(0.02)

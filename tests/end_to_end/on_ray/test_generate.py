"""Generation on Ray and in one process: same bytes, whatever happens on the way."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.support.command_line import start, succeed
from tests.support.ray_workers import kill_worker
from tests.support.workspace import Workspace, make_workspace, tars

pytestmark = [pytest.mark.ray, pytest.mark.slow]
MANY = ("generate.num_samples=3000", "generate.samples_per_shard=50")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Shards of many samples rendered in one process, whatever the folder."""
    workspace = make_workspace(tmp_path_factory.mktemp("undisturbed"))
    succeed("generate", workspace.config, *MANY)
    return tars(workspace.folder / "store")


def test_generate_with_one_two_or_no_ray_workers_gives_the_same_bytes(workspace: Workspace) -> None:
    pools = []
    for workers in (0, 1, 2):
        store = workspace.folder / f"store{workers}"
        places = f"paths.store={store}"
        succeed("generate", workspace.config, f"ray.render_workers={workers}", places)
        pools.append(tars(store))
    assert len(pools[0]) == 2 * 3, "images and features"
    assert pools[0] == pools[1] == pools[2]


def test_generate_killed_and_typed_again_finishes_the_rest(
    workspace: Workspace, undisturbed: dict[str, bytes]
) -> None:
    on_ray = ("generate", workspace.config, *MANY, "ray.render_workers=2")
    pool = workspace.folder / "store" / "teacher"
    with start(*on_ray) as run:
        run.wait_until(lambda: len(list(pool.rglob("*.tar"))) >= 10)
        run.kill()
    assert len(list(pool.rglob("shard-*.tar"))) < 120
    rubbish = [*pool.rglob("*.tmp"), pool_folder(pool) / "images" / ".shard-000003.tar.0.tmp"]
    rubbish[-1].touch()
    for path in rubbish:
        os.utime(path, (0, 0))
    at_work = pool_folder(pool) / "images" / ".shard-000004.tar.1.tmp"
    at_work.touch()
    os.utime(at_work, (time.time() + 3600,) * 2)  # new still, however long this takes
    succeed(*on_ray)
    assert tars(workspace.folder / "store") == undisturbed
    assert list(pool.rglob("*.tmp")) == [at_work], "old rubbish goes, another run's files stay"
    assert "done" in succeed(*on_ray).errors


def test_generate_with_a_killed_renderer_loses_nothing(
    workspace: Workspace, undisturbed: dict[str, bytes]
) -> None:
    with start("generate", workspace.config, *MANY, "ray.render_workers=2") as run:
        store = workspace.folder / "store"
        run.wait_until(
            lambda: len(list(store.rglob("*.tar"))) >= 2 and kill_worker(run.pid, "render")
        )
        code, _, errors = run.result()
        assert code == 0, errors
    assert tars(workspace.folder / "store") == undisturbed


def pool_folder(pools: Path) -> Path:
    (folder,) = pools.iterdir()
    return folder

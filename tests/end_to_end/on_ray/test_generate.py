"""Generation on Ray and in one process: same bytes, whatever happens on the way."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from tests.support.command_line import assert_mistake, run, start, succeed
from tests.support.ray_workers import kill_worker
from tests.support.workspace import Workspace, tars

pytestmark = [pytest.mark.ray, pytest.mark.slow]
MANY = ("generate.num_samples=1500", "generate.samples_per_shard=25")


@pytest.mark.usefixtures("ray")
def test_generate_with_one_two_or_no_ray_workers_gives_the_same_bytes(workspace: Workspace) -> None:
    pools = []
    for workers in (0, 1, 2):
        store = workspace.folder / f"store{workers}"
        places = f"paths.store={store}"
        succeed("generate", workspace.config, f"ray.render_workers={workers}", places)
        pools.append(tars(store))
    assert len(pools[0]) == 2 * 3, "images and features"
    assert pools[0] == pools[1] == pools[2]


@pytest.mark.usefixtures("ray")
def test_generate_from_weights_that_are_not_of_the_description_is_one_line(
    workspace: Workspace,
) -> None:
    """In the words of a rendering in this process."""
    path = workspace.folder / "teacher" / "teacher.json"
    described = json.loads(path.read_text())
    described["generator"]["w_dim"] *= 2
    path.write_text(json.dumps(described))
    here, there = (
        run("generate", workspace.config, f"ray.render_workers={workers}") for workers in (0, 1)
    )
    assert_mistake(there, path.with_name("generator.safetensors"), "expected [")
    assert there.errors.splitlines()[-1] == here.errors.splitlines()[-1]


def test_generate_killed_and_typed_again_finishes_the_rest_though_a_renderer_is_killed(
    workspace: Workspace,
) -> None:
    undisturbed = workspace.folder / "undisturbed"
    succeed("generate", workspace.config, *MANY, f"paths.store={undisturbed}")
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
    with start(*on_ray) as run:
        run.wait_until(lambda: kill_worker(run.pid, "render"))
        code, _, errors = run.result()
        assert code == 0, errors
    assert tars(workspace.folder / "store") == tars(undisturbed)
    assert list(pool.rglob("*.tmp")) == [at_work], "old rubbish goes, another run's files stay"
    assert "done" in succeed(*on_ray).errors


def pool_folder(pools: Path) -> Path:
    (folder,) = pools.iterdir()
    return folder

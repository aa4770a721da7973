"""Generation beside others, killed, or out of room, and shards that change under a training: what
is in the store afterwards is what an undisturbed run leaves, byte for byte.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from shards.pool import IMAGES
from tests.support.command_line import assert_mistake, command, run_process, start, succeed
from tests.support.stored_pools import contents, flip, listed_rows, relist_as_it_is
from tests.support.workspace import Workspace, tars

pytestmark = pytest.mark.slow
MANY = ("generate.num_samples=800", "generate.samples_per_shard=50")
NUM_MANY = 16


def run_at_once(workspace: Workspace, *requests: tuple[str, ...]) -> None:
    """Several `generate` commands, all of which end well."""
    with ExitStack() as stack:
        runs = [
            stack.enter_context(start("generate", workspace.config, *request))
            for request in requests
        ]
        for run in runs:
            code, _, errors = run.result()
            assert code == 0, errors


def render_undisturbed(workspace: Workspace, *overrides: str) -> dict[str, bytes]:
    """Shards of the same request in a store of its own."""
    store = workspace.folder / "undisturbed"
    succeed("generate", workspace.config, *overrides, f"paths.store={store}", "name=straight")
    return tars(store)


def pool_of(workspace: Workspace) -> Path:
    (folder,) = (workspace.folder / "store" / "teacher").iterdir()
    return folder


def claims_of(pool: Path) -> list[Path]:
    """Files of runs; one half written by a killed run stays until it is old enough to be stale."""
    return list((pool / "claims").glob("[!.]*"))


# Two at once


def test_generate_twice_at_once_in_one_run_ends_with_one_right_set(workspace: Workspace) -> None:
    run_at_once(workspace, MANY, MANY)
    assert tars(workspace.folder / "store") == render_undisturbed(workspace, *MANY)
    pool = pool_of(workspace)
    for folder in pool.iterdir():
        if folder.is_dir() and folder.name != "claims":
            rows = Counter(listed_rows(folder))
            assert len(rows) == NUM_MANY
            assert rows.total() <= NUM_MANY * 1.1, "nearly none is rendered twice"
    assert claims_of(pool) == []
    said = succeed("shards", "verify", pool.name, "--store", workspace.folder / "store")
    assert "all as the manifest says" in said.out


def test_generate_other_features_at_once_under_other_runs_shares_the_images(
    workspace: Workspace,
) -> None:
    asked = ("generate.features=[synthesis.b8]", "generate.features=[w]")
    run_at_once(
        workspace,
        *(
            (f"paths.runs={workspace.folder / str(number)}", feature, *MANY)
            for number, feature in enumerate(asked)
        ),
    )
    for feature in asked:
        expected = render_undisturbed(workspace, feature, *MANY)
    assert tars(workspace.folder / "store") == expected
    assert len(expected) == 3 * NUM_MANY
    assert Counter(listed_rows(pool_of(workspace) / IMAGES)).total() <= NUM_MANY * 1.1
    assert claims_of(pool_of(workspace)) == []


# Killed


def test_generate_killed_at_any_moment_and_finished_leaves_the_same_bytes(
    workspace: Workspace,
) -> None:
    store = workspace.folder / "store"

    def count(pattern: str) -> int:
        return sum(1 for _ in store.glob(f"teacher/*/{pattern}"))

    moments: list[Callable[[], bool]] = [
        lambda: count("claims/*.json") > 0,
        lambda: count("images/.*.tmp") > 0,
        lambda: count("images/manifest/*.parquet") > 0 and count("features-*/.*.tmp") > 0,
        lambda: count("images/*.tar") >= NUM_MANY // 2,
    ]
    for is_moment in moments:
        with start("generate", workspace.config, *MANY) as run:
            run.wait_until(is_moment)
            run.kill()
        assert len(claims_of(pool_of(workspace))) <= 2, "those of the dead do not pile up"
    assert count("images/*.tar") < NUM_MANY, "killed too late to say anything"
    for path in contents(store, "teacher/*/*/shard-*.tar"):
        assert (store / path).stat().st_size > 0
    succeed("generate", workspace.config, *MANY)
    assert tars(store) == render_undisturbed(workspace, *MANY)
    assert claims_of(pool_of(workspace)) == []
    assert not (workspace.folder / "runs" / "tiny" / "train").exists()


def test_real_killed_at_any_moment_and_finished_leaves_the_same_bytes(
    workspace: Workspace,
) -> None:
    store = workspace.folder / "store"
    small = ("real.samples_per_shard=10",)

    def count(pattern: str) -> int:
        return sum(1 for _ in store.glob(f"real/*/{pattern}"))

    moments: list[Callable[[], bool]] = [
        lambda: count("claims/*.json") > 0,
        lambda: count("rows-train.parquet") > 0,
        lambda: count("train/manifest/*.parquet") > 0 and count("train/.*.tmp") > 0,
        lambda: count("train/*.tar") >= 70,
        lambda: count("test/*.tar") >= 5,
    ]
    for is_moment in moments:
        with start("real", workspace.config, *small) as run:
            run.wait_until(is_moment)
            run.kill()
    assert count("test/*.tar") < 36, "killed too late to say anything"
    succeed("real", workspace.config, *small)
    packed = tars(store)
    elsewhere = workspace.folder / "undisturbed"
    succeed("real", workspace.config, *small, f"paths.store={elsewhere}", "name=straight")
    assert packed == tars(elsewhere)
    (folder,) = (store / "real").iterdir()
    assert claims_of(folder) == []


def test_generate_leaves_nothing_hidden_that_killed_runs_left_long_ago(
    workspace: Workspace,
) -> None:
    succeed("generate", workspace.config)
    pool = pool_of(workspace)
    left = [
        pool / ".recipe.json.0.tmp",
        pool / "claims" / ".0.json.0.tmp",
        pool / IMAGES / ".shard-000009.tar.0.tmp",
        pool / IMAGES / "manifest" / ".0-0000.parquet.0.tmp",
    ]
    for path in left:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"half")
        os.utime(path, (0, 0))
    succeed("generate", workspace.config, "generate.num_samples=200")
    assert [path for path in left if path.exists()] == []


# No room


@pytest.mark.parametrize("stage", ["real", "generate"])
def test_shard_larger_than_a_file_may_be_is_one_line_and_leaves_the_rest(
    workspace: Workspace, stage: str
) -> None:
    succeed("generate", workspace.config, "generate.num_samples=50")
    before = tars(workspace.folder / "store")
    more = "generate.num_samples=100"
    with start(stage, workspace.config, more, max_file_bytes=100_000) as run:
        assert_mistake(run.result(), workspace.folder / "store")
    assert before.items() <= tars(workspace.folder / "store").items()
    assert len(listed_rows(pool_of(workspace) / IMAGES)) == 1
    assert list((workspace.folder / "store").rglob("*.tmp")) == []
    succeed(stage, workspace.config, more)


FULL_DISK = """
mount -t tmpfs -o size={kilobytes}k tmpfs "$1" || exit 99
target="$2"; shift 2
"$@"; code=$?
cp -a "$PLACE/." "$target"
exit $code
"""


def has_namespaces() -> bool:
    if sys.platform != "linux" or shutil.which("unshare") is None:
        return False
    mount = ["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return subprocess.run(mount, capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not has_namespaces(), reason="needs a file system of its own")
def test_generate_on_a_full_disk_is_one_line_and_goes_on_with_more_room(
    workspace: Workspace,
) -> None:
    disk, kept = workspace.folder / "disk", workspace.folder / "kept"
    disk.mkdir()
    kept.mkdir()
    words = command("generate", workspace.config, f"paths.store={disk / 'store'}", *MANY)
    script = FULL_DISK.format(kilobytes=2000)
    apart = ["unshare", "-rm", "sh", "-c", script, "sh", str(disk), str(kept), *words]
    assert_mistake(run_process(apart, PLACE=str(disk)), disk / "store")
    made = contents(kept)
    assert 0 < len(made) < 2 * NUM_MANY
    assert list(kept.rglob("*.tmp")) == []
    assert list(kept.rglob("claims/*")) == []
    succeed("generate", workspace.config, f"paths.store={kept / 'store'}", *MANY)
    assert tars(kept / "store") == render_undisturbed(workspace, *MANY)
    for path, content in made.items():
        assert (kept / path).read_bytes() == content


# Shards that change under a training


def test_train_whose_shards_change_under_it_stops_and_says_so(workspace: Workspace) -> None:
    long = ("train.epochs=3000", "train.global_batch=32", "real.samples_per_shard=100")
    for stage in ("real", "generate"):
        succeed(stage, workspace.config, *long)
    folder = workspace.folder / "runs" / "tiny" / "train"
    with start("train", workspace.config, *long) as run:
        run.wait_until((folder / "checkpoint.pt").exists)
        images = pool_of(workspace) / IMAGES
        flip(images / "shard-000000.tar", 2000)
        relist_as_it_is(images, "shard-000000.tar")
        assert_mistake(run.result(), images, "changed")
    assert not (folder / "student.safetensors").exists()

"""The whole road with the store in object storage, and the commands that look at it there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from tests.support.command_line import assert_mistake, command, run, run_process, succeed
from tests.support.s3 import BUCKET, S3Server, forget_file_systems, use_server
from tests.support.workspace import Workspace, tars

pytestmark = pytest.mark.slow
STORE = f"s3://{BUCKET}/store"
SMALL = ("train.epochs=1", "train.global_batch=1024")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    forget_file_systems()
    server = S3Server()
    use_server(server, monkeypatch)
    server.forget()  # its application outlives it
    yield server
    server.close()
    forget_file_systems()


def objects() -> dict[str, bytes]:
    """Every object of the store, by its place there."""
    files = fsspec.filesystem("s3", use_listings_cache=False)
    root = STORE.partition("://")[2]
    return {path.removeprefix(f"{root}/"): files.cat_file(path) for path in files.find(root)}


def shards_of_s3() -> dict[str, bytes]:
    return {path: content for path, content in objects().items() if path.endswith(".tar")}


def places(workspace: Workspace) -> list[str]:
    return [f"paths.store={STORE}", f"paths.cache={workspace.folder / 'cache'}"]


def test_stages_on_s3_through_the_command_line_equal_those_on_a_disk(
    workspace: Workspace, server: S3Server
) -> None:
    succeed("real", workspace.config, *places(workspace), *SMALL)
    for stage in ("generate", "train"):  # in processes that know no more than the environment
        done = run_process(command(stage, workspace.config, *places(workspace), *SMALL))
        assert done.code == 0, done.errors
    for stage in ("real", "generate", "train"):
        succeed(stage, workspace.config, "name=local", *SMALL)
    assert shards_of_s3() == tars(workspace.folder / "store")
    students = [
        (workspace.folder / "runs" / name / "train" / "student.safetensors").read_bytes()
        for name in ("tiny", "local")
    ]
    assert students[0] == students[1]
    assert not [path for path in objects() if "claims/" in path]
    for path in workspace.folder.rglob("runs/**/*.json"):
        assert "secret" not in path.read_text(), "no credentials in any file"
    server.requests.clear()
    for stage in ("real", "generate", "train"):
        assert "done" in run(stage, workspace.config, *places(workspace), *SMALL).errors
    assert server.downloads() == []
    assert not [line for line in server.requests if line.startswith(("PUT", "DELETE"))]


def test_shards_commands_on_s3_verify_repair_audit_and_collect(
    workspace: Workspace, server: S3Server
) -> None:
    succeed("generate", workspace.config, *places(workspace))
    expected = shards_of_s3()
    key = next(iter(expected)).split("/")[1]
    store = ("--store", STORE)
    runs = ("--runs", workspace.folder / "runs")
    cache = ("--cache", workspace.folder / "cache")
    assert key in succeed("shards", "list", *store, *runs).out
    assert key in succeed("shards", "show", key[:6], *store).out
    succeed("shards", "diff", key, workspace.config, *store)
    succeed("shards", "verify", key, *store, "--audit", 20, *cache)

    damaged, lost = sorted(expected)[1], sorted(expected)[4]
    files = fsspec.filesystem("s3", use_listings_cache=False)
    content = bytearray(expected[damaged])
    content[2000] ^= 255
    files.pipe_file(f"{BUCKET}/store/{damaged}", bytes(content))
    files.rm_file(f"{BUCKET}/store/{lost}")
    code, out, _ = run("shards", "verify", key, *store)
    assert code == 1
    for path in (damaged, lost):
        assert f"{path.partition(f'{key}/')[2]}: " in out
    server.requests.clear()
    succeed("shards", "verify", key, *store, "--repair")
    assert shards_of_s3() == expected
    written = {line.split("?")[0] for line in server.requests if line.startswith("PUT")}
    tars_written = {line for line in written if line.endswith(".tar")}
    assert tars_written == {f"PUT /{BUCKET}/store/{path}" for path in (damaged, lost)}

    assert "0 recipes" in succeed("shards", "gc", *store, *runs, "--delete", "--yes").out
    Path(workspace.folder / "runs" / "tiny" / "generate" / "record.json").unlink()
    succeed("shards", "gc", *store, *runs)
    assert shards_of_s3() == expected
    succeed("shards", "gc", *store, *runs, "--delete", "--yes")
    assert objects() == {}


def test_bucket_that_is_not_there_is_one_line(workspace: Workspace, server: S3Server) -> None:
    store = "s3://nowhere/store"
    assert_mistake(run("generate", workspace.config, f"paths.store={store}"), store)
    assert not (workspace.folder / "runs").exists()


def test_train_on_s3_whose_shard_was_altered_names_it(
    workspace: Workspace, server: S3Server
) -> None:
    for stage in ("real", "generate"):
        succeed(stage, workspace.config, *places(workspace))
    damaged = next(path for path in shards_of_s3() if "images/shard-000001" in path)
    files = fsspec.filesystem("s3", use_listings_cache=False)
    files.pipe_file(f"{BUCKET}/store/{damaged}", shards_of_s3()[damaged][::-1])
    result = run("train", workspace.config, *places(workspace), *SMALL)
    assert_mistake(result, f"{STORE}/{damaged}")

"""The same sets on remote storage."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.real.request import find_request, make_request
from shards import storage
from tests.support.real_images import (
    MAKERS,
    read_set,
    real_config,
    refuse,
    tar,
    write_folder,
)
from tests.support.s3 import BUCKET, S3Server


def upload(data: Path, url: str) -> None:
    """Put a folder's files below a URL."""
    files = storage.file_system(url.partition("://")[0])
    for path in data.rglob("*"):
        if path.is_file():
            files.pipe_file(f"{url}/{path.relative_to(data)}", path.read_bytes())


@pytest.fixture(params=["s3", "memory"])
def remote(request: pytest.FixtureRequest) -> str:
    """A URL below which nothing is."""
    if request.param == "s3":
        server: S3Server = request.getfixturevalue("s3")
        assert server.url
        return f"s3://{BUCKET}/images"
    storage.file_system("memory").store.clear()
    return "memory://images"


@pytest.mark.parametrize("kind", ["folder", *MAKERS])
def test_remote_sets_are_those_of_the_same_local_files(
    tmp_path: Path, remote: str, kind: str
) -> None:
    data = tmp_path / "data"
    if kind == "folder":
        files: dict[str, bytes | int] = {f"{'abc'[n % 3]}/deep/{n}.png": n for n in range(40)}
        write_folder(data / "train", {**files, "x.png": 40, "a/.hidden.png": 1, "a/n.txt": b""})
        write_folder(data / "test", {"c/7.png": 7})
    else:
        MAKERS[kind](data / f"train-0.{kind}", *range(20))
        MAKERS[kind](data / f"train-1.{kind}", *range(20, 41))
        MAKERS[kind](data / f"test.{kind}", 5, 7)
    upload(data, remote)
    local = read_set(tmp_path / "local", path=data)
    found = read_set(tmp_path / "remote", path=remote)
    for split in ("train", "test"):
        there, here = getattr(found, split), getattr(local, split)
        assert there.numbers == here.numbers
        assert there.labels == here.labels
        assert there.sources == here.sources
    assert found.class_names == local.class_names
    if kind == "folder":
        config = real_config(tmp_path / "glob", train=f"{remote}/train/*/deep/*.png")
        assert make_request(config).listings["train"].num_entries == 40
        assert find_request(config) is not None
    else:
        pattern = f"{remote}/train-*.{kind}"
        assert read_set(tmp_path / "glob", train=pattern).train.numbers == local.train.numbers
        braces = f"{remote}/train-{{0..1}}.{kind}"
        assert read_set(tmp_path / "braces", train=braces).train.labels == local.train.labels


def test_remote_places_that_are_not_there_are_named(tmp_path: Path, remote: str) -> None:
    for fields in ({"path": remote}, {"train": f"{remote}/a.tar"}, {"train": f"{remote}/*.tar"}):
        message = refuse(tmp_path, **fields)
        assert message.startswith(f"real.{next(iter(fields))}: {remote}")
        assert "is not there" in message


def test_remote_storage_that_nobody_knows_is_named(tmp_path: Path) -> None:
    message = refuse(tmp_path, train="nowhere://images/a.tar")
    assert "nowhere://" in message


def test_remote_storage_that_does_not_answer_is_one_line(tmp_path: Path, s3: S3Server) -> None:
    with s3.refusing("/images"):
        message = refuse(tmp_path, train=f"s3://{BUCKET}/images/a.tar")
    assert message.startswith("real.train: s3://")
    assert "check the address" in message


def test_many_remote_files_are_found_by_a_few_requests(tmp_path: Path, s3: S3Server) -> None:
    for number in range(12):
        tar(tmp_path / "data" / f"part-{number:02}.tar", number)
    upload(tmp_path / "data", f"s3://{BUCKET}/images")
    config = real_config(tmp_path, train=f"s3://{BUCKET}/images/part-{{00..11}}.tar")
    assert make_request(config).listings["train"].num_entries == 12
    s3.requests.clear()
    assert find_request(config) is not None
    assert len(s3.requests) < 6

"""Folders to keep shards in: on the local disk, and in an S3 bucket served on loopback."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from shards.storage import Folder
from tests.s3 import BUCKET, S3Server, forget_file_systems, use_server


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    forget_file_systems()
    server = S3Server()
    yield server
    server.close()
    forget_file_systems()


@pytest.fixture
def s3(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """The server, its bucket empty; `s3://` means it."""
    s3_server.forget()
    use_server(s3_server, monkeypatch)
    return s3_server


@pytest.fixture
def bucket_folder(s3: S3Server) -> Folder:
    """`s3://bucket/store`, empty."""
    return Folder.at(f"s3://{BUCKET}/store")


@pytest.fixture(params=["local", "s3"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Folder:
    """A folder of a store that does not exist yet."""
    if request.param == "local":
        return Folder.at(tmp_path / "store")
    found: Folder = request.getfixturevalue("bucket_folder")
    return found

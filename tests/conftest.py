"""Fixtures of more than one test file: tiny shards of both kinds, and folders to keep shards in, on
the local disk and in an S3 bucket served on loopback.
"""

from __future__ import annotations

import os

# Two files are run at once, as are the commands that they start: more threads than cores are slow,
# and sums in another order would tell a command from the same one run here.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.cluster import connection
from pipeline.train.data import TrainingShards
from shards.reader import ShardReader
from shards.storage import Folder
from tests.support.ray_session import common_session
from tests.support.s3 import BUCKET, S3Server, forget_file_systems, use_server
from tests.support.tiny_shards import (
    open_reader,
    open_training_shards,
    write_pool,
    write_real_shards,
)
from tests.support.workspace import HIDDEN

for _name in HIDDEN:
    os.environ.pop(_name, None)


@pytest.fixture
def real_folder(tmp_path: Path) -> Path:
    """40 labelled real images of 16 px in three shards."""
    write_real_shards(tmp_path / "real")
    return tmp_path / "real"


@pytest.fixture
def real_reader(real_folder: Path) -> ShardReader:
    return open_reader(real_folder)


@pytest.fixture(scope="session")
def training_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`real/` with 40 images and `pool/` with 40 samples of a teacher; read only."""
    folder = tmp_path_factory.mktemp("training")
    write_real_shards(folder / "real")
    write_pool(folder / "pool")
    return folder


@pytest.fixture
def training_shards(training_folder: Path) -> TrainingShards:
    return open_training_shards(training_folder)


@pytest.fixture
def ray() -> Iterator[None]:
    """Ray with two processors, which commands in this process find and leave alone."""
    with common_session():
        yield


@pytest.fixture(scope="session", autouse=True)
def _no_ray_is_left() -> Iterator[None]:
    yield
    connection.disconnect()


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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that start Ray first, then those with slow tests: none of them is left for the end,
    when the other processes have nothing to do.
    """
    marks: dict[Path, set[str]] = {}
    for item in items:
        marks.setdefault(item.path, set()).update(mark.name for mark in item.iter_markers())

    def turn(item: pytest.Item) -> int:
        return 2 - ("slow" in marks[item.path]) - ("ray" in marks[item.path])

    items.sort(key=turn)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """The common Ray ends where tests no longer start it."""
    if not starts_ray(item.path):
        connection.disconnect()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """A process for each file in turn, but one for all that start Ray: two Rays at once wait for
    the same processors, and for a port that only one of them gets.
    """
    from xdist.scheduler import LoadFileScheduling

    class RayInOneProcess(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = str(super()._split_scope(nodeid))
            return "ray" if starts_ray(config.rootpath / file) else file

    return RayInOneProcess(config, log) if config.getvalue("dist") == "loadfile" else None


@cache
def starts_ray(file: Path) -> bool:
    """Whether tests are marked so; the process that hands out tests knows nothing but names."""
    return "mark.ray" in file.read_text(encoding="utf-8")


def pytest_configure() -> None:
    """One thread: tensors this small gain nothing from more, and lose much on a busy machine."""
    torch.set_num_threads(1)

"""Storage that is gone, refuses, or loses its writer on the way."""

from __future__ import annotations

import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from shards import storage
from shards.storage import Folder, StorageError
from tests.support.s3 import S3Server, forget_file_systems, use_server

MIB = 2**20


def operate(folder: Folder, operation: str, local: Path) -> None:
    if operation == "list":
        folder.list_files()
    elif operation == "read":
        folder.read("name")
    elif operation == "write":
        folder.write("name", b"1")
    elif operation == "writing":
        with folder.writing("name") as path:
            path.write_bytes(b"1")
    elif operation == "download":
        folder.download("name", local)
    elif operation == "remove":
        folder.remove("name")


OPERATIONS = ["list", "read", "write", "writing", "download", "remove"]


@pytest.fixture
def one_attempt(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The driver repeats a request less often; what it says in the end is the same."""
    forget_file_systems()
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    yield
    forget_file_systems()


@pytest.mark.slow
@pytest.mark.usefixtures("one_attempt")
def test_folder_whose_server_is_gone_raises_storage_error_that_names_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    server = S3Server()
    use_server(server, monkeypatch)
    monkeypatch.setattr(storage, "PATIENT_ATTEMPTS", 2)
    folder = Folder.at("s3://bucket/store")
    folder.write("name", b"1")
    server.close()

    def error_of(operation: str) -> OSError:
        with pytest.raises(StorageError) as raised:
            operate(folder, operation, tmp_path / "copy")
        return raised.value

    with ThreadPoolExecutor(len(OPERATIONS)) as threads:  # each waits for seconds
        errors = list(threads.map(error_of, OPERATIONS))
    for error in errors:
        assert error.filename in (folder.url, f"{folder.url}/name")
        assert "connect" in str(error.strerror).lower()
        assert "\n" not in str(error)


@pytest.mark.slow
@pytest.mark.usefixtures("one_attempt")
def test_folder_that_has_answered_is_waited_for_while_its_server_is_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = S3Server()
    use_server(server, monkeypatch)
    monkeypatch.setattr(storage, "PATIENT_ATTEMPTS", 11)
    folder = Folder.at("s3://bucket/store")
    folder.write("name", b"1")
    port = server.port
    server.close()
    back: list[S3Server] = []
    returning = threading.Timer(2, lambda: back.append(S3Server(port)))
    returning.start()
    folder.write("name", b"2")
    returning.join()  # it answers before this thread knows
    (again,) = back
    assert "PUT /bucket/store/name" in again.requests
    assert folder.read("name") == b"2"
    again.close()


@pytest.mark.slow
def test_folder_whose_server_drops_every_connection_raises_storage_error(
    bucket_folder: Folder, s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "PATIENT_ATTEMPTS", 2)
    bucket_folder.write("name", b"old")
    with s3.refusing("PUT"), pytest.raises(StorageError, match="s3://bucket/store/name"):
        bucket_folder.write("name", b"new")
    assert bucket_folder.read("name") == b"old"


@pytest.mark.parametrize("operation", ["read", "download"])
def test_folder_in_a_bucket_that_does_not_exist_cannot_be_read(
    s3: S3Server, tmp_path: Path, operation: str
) -> None:
    with pytest.raises(OSError, match=r"bucket|No such"):
        operate(Folder.at("s3://another/store"), operation, tmp_path / "copy")


@pytest.mark.parametrize("operation", ["write", "writing"])
def test_folder_in_a_bucket_that_does_not_exist_is_named_on_writing(
    s3: S3Server, tmp_path: Path, operation: str
) -> None:
    with pytest.raises(StorageError, match="s3://another/store/name"):
        operate(Folder.at("s3://another/store"), operation, tmp_path / "copy")


def test_storage_error_survives_pickling_between_processes() -> None:
    error = pickle.loads(pickle.dumps(StorageError("s3://bucket/name", "gone")))
    assert isinstance(error, StorageError)
    assert (error.filename, error.strerror) == ("s3://bucket/name", "gone")


# Interrupted uploads

UPLOAD = """
import sys
from shards.storage import Folder
with Folder.at(sys.argv[1]).writing("name") as path, path.open("wb") as file:
    file.truncate(int(sys.argv[2]))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("num_bytes", "moment"),
    [
        pytest.param(20 * MIB, "PUT ", id="a single upload"),
        pytest.param(101 * MIB, "partNumber=2", id="a part of three"),
        pytest.param(101 * MIB, "partNumber=3", id="the last part of three"),
    ],
)
def test_upload_killed_on_the_way_leaves_no_object(
    bucket_folder: Folder,
    s3: S3Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    num_bytes: int,
    moment: str,
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with s3.holding("/store/name", moment) as reached:
        writer = subprocess.Popen(
            [sys.executable, "-c", UPLOAD, bucket_folder.url, str(num_bytes)],
            cwd=Path(__file__).parents[2],
        )
        try:
            assert reached.wait(30)
        finally:
            writer.kill()
            writer.wait()
    assert bucket_folder.list_files() == {}
    with pytest.raises(FileNotFoundError):
        bucket_folder.read("name")
    with bucket_folder.writing("name") as path:
        path.write_bytes(b"again")
    assert bucket_folder.read("name") == b"again"


@pytest.mark.slow
def test_upload_killed_on_the_way_keeps_the_object_that_was_there(
    bucket_folder: Folder, s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket_folder.write("name", b"old")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with s3.holding("PUT /bucket/store/name") as reached:
        writer = subprocess.Popen(
            [sys.executable, "-c", UPLOAD, bucket_folder.url, str(20 * MIB)],
            cwd=Path(__file__).parents[2],
        )
        try:
            assert reached.wait(30)
        finally:
            writer.kill()
            writer.wait()
    assert bucket_folder.read("name") == b"old"

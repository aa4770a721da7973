"""A folder of the store behaves the same on a local disk and in a bucket."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from shards.errors import UserError
from shards.storage import Folder, check_location
from tests.support.s3 import S3Server

MIB = 2**20


# On a disk and in a bucket alike


def test_folder_gives_back_what_was_written(folder: Folder) -> None:
    folder.write("name.bin", b"\x00\xff" * 1000)
    assert folder.read("name.bin") == b"\x00\xff" * 1000


def test_folder_lists_its_own_files_with_sizes_and_its_folders_sorted(folder: Folder) -> None:
    folder.write("b", b"12")
    folder.write("a", b"")
    (folder / "z").write("deep", b"123")
    (folder / "y" / "x").write("deeper", b"1")
    assert folder.list_files() == {"a": 0, "b": 2}
    assert folder.list_folders() == ["y", "z"]
    assert (folder / "y").list_files() == {}
    assert (folder / "y").list_folders() == ["x"]


def test_folder_size_is_that_of_a_file_and_none_of_what_is_not_there(folder: Folder) -> None:
    assert folder.size("name") is None
    folder.write("name", b"12345")
    assert folder.size("name") == 5
    assert folder.size("nam") is None


@pytest.mark.parametrize("is_durable", [False, True])
def test_folder_write_replaces_the_file_whether_durable_or_not(
    folder: Folder, is_durable: bool
) -> None:
    folder.write("name", b"old and longer", is_durable)
    folder.write("name", b"new", is_durable)
    assert folder.read("name") == b"new"
    assert folder.list_files() == {"name": 3}


def test_folder_that_does_not_exist_lists_nothing(folder: Folder) -> None:
    assert folder.list_files() == {}
    assert folder.list_folders() == []


def test_folder_sees_at_once_what_another_wrote_or_removed(folder: Folder) -> None:
    assert folder.list_files() == {}
    Folder(folder.url).write("name", b"1")
    assert folder.list_files() == {"name": 1}
    Folder(folder.url).remove("name")
    assert folder.list_files() == {}


def test_folder_read_of_no_file_raises_file_not_found(folder: Folder) -> None:
    folder.write("other", b"1")
    with pytest.raises(FileNotFoundError):
        folder.read("name")


def test_folder_download_copies_the_file(folder: Folder, tmp_path: Path) -> None:
    folder.write("name", b"content")
    folder.download("name", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b"content"


def test_folder_download_of_no_file_raises_file_not_found(folder: Folder, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        folder.download("name", tmp_path / "copy")


def test_folder_remove_takes_one_file_and_none_is_fine(folder: Folder) -> None:
    folder.write("name", b"1")
    folder.write("other", b"2")
    folder.remove("name")
    folder.remove("name")
    assert folder.list_files() == {"other": 1}


def test_folder_remove_all_takes_the_folder_and_none_of_its_neighbours(folder: Folder) -> None:
    (folder / "pool").write("name", b"1")
    (folder / "pool" / "deep").write("name", b"1")
    (folder / "pool2").write("name", b"1")
    (folder / "pool").remove_all()
    assert folder.list_folders() == ["pool2"]
    assert (folder / "pool2").list_files() == {"name": 1}


@pytest.mark.parametrize(("mine", "neighbour"), [("run*", "run2"), ("run[1]", "run1")])
def test_folder_remove_all_takes_its_name_literally(
    folder: Folder, mine: str, neighbour: str
) -> None:
    (folder / mine).write("name", b"1")
    (folder / neighbour).write("name", b"1")
    (folder / mine).remove_all()
    assert folder.list_folders() == [neighbour]


@pytest.mark.parametrize("name", ["with space", "a#b", "50%20", "é", "[x]", "q?", "a+b", "a=b"])
def test_folder_takes_any_name_literally(folder: Folder, name: str) -> None:
    here = folder / name
    here.write(name, b"1")
    with here.writing("shard.tar") as path:
        path.write_bytes(b"22")
    assert here.list_files() == {name: 1, "shard.tar": 2}
    assert here.read(name) == b"1"
    assert folder.list_folders() == [name]


def test_folder_writing_publishes_the_file_when_the_block_has_ended(folder: Folder) -> None:
    with folder.writing("name") as path:
        path.write_bytes(b"content")
        assert folder.list_files() == {}
    assert folder.list_files() == {"name": 7}
    assert folder.read("name") == b"content"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_folder_writing_that_fails_leaves_what_was_there(
    folder: Folder, error: type[BaseException]
) -> None:
    folder.write("name", b"old")

    def write_half() -> None:
        with folder.writing("name") as path:
            path.write_bytes(b"half")
            raise error

    with pytest.raises(error):
        write_half()
    assert folder.list_files() == {"name": 3}
    assert folder.read("name") == b"old"


def test_folder_writing_leaves_nothing_on_the_local_disk(
    bucket_folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with bucket_folder.writing("name") as path:
        path.write_bytes(b"content")
        assert path.is_relative_to(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_folder_keeps_files_larger_than_one_upload_part(
    bucket_folder: Folder, s3: S3Server, tmp_path: Path
) -> None:
    with bucket_folder.writing("large") as path, path.open("wb") as file:
        file.truncate(101 * MIB)
        file.write(b"start")
    assert any("partNumber=2" in line for line in s3.requests)
    assert bucket_folder.list_files() == {"large": 101 * MIB}
    bucket_folder.download("large", tmp_path / "copy")
    with (tmp_path / "copy").open("rb") as file:
        assert file.read(6) == b"start\0"
        assert file.seek(0, 2) == 101 * MIB


def test_local_folder_does_not_list_unfinished_files(tmp_path: Path) -> None:
    folder = Folder.at(tmp_path)
    with folder.writing("name") as path:
        path.write_bytes(b"half")
        assert path.exists()
        assert folder.list_files() == {}


# Locations


def test_folder_at_a_path_is_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert Folder.at("store/").url == str(tmp_path / "store")
    assert Folder.at("~/store").path == tmp_path / "home" / "store"
    assert Folder.at(tmp_path).is_local


def test_folder_at_a_url_has_no_path() -> None:
    folder = Folder.at("s3://bucket/store/")
    assert (folder.url, folder.name, folder.is_local) == ("s3://bucket/store", "store", False)
    assert str(folder / "deep") == "s3://bucket/store/deep"
    with pytest.raises(ValueError, match="not a local folder"):
        _ = folder.path


@pytest.mark.parametrize(
    "location",
    [
        "pipe:cat /etc/passwd",
        "pipe://cat",
        "http://host/store",
        "https://host/store",
        "file:///store",
        "memory://store",
        "ssh://host/store",
        "S3://bucket/store",
        "simplecache::s3://bucket/store",
        "s3://bucket/a.zip::store",
        "://store",
    ],
)
def test_location_of_another_kind_is_refused(location: str) -> None:
    with pytest.raises(UserError, match=r"a store is a folder, s3://bucket/… or gs://bucket/…"):
        check_location(location)
    with pytest.raises(UserError):
        Folder.at(location)


@pytest.mark.parametrize("location", ["s3://", "s3:///", "gs://"])
def test_location_without_a_bucket_is_refused(location: str) -> None:
    with pytest.raises(UserError, match="name a bucket"):
        check_location(location)


@pytest.mark.parametrize(
    "location",
    ["store", "/data/store", "~/store", "s3://bucket", "s3://bucket/a/b", "gs://b/store"],
)
def test_location_of_a_path_or_bucket_is_taken_as_it_is(location: str) -> None:
    assert check_location(location) == location


# What goes wrong


def test_folder_without_its_driver_names_the_package_in_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "gcsfs", None)  # as if it were not installed
    with pytest.raises(UserError, match=r"gs://.*pip install gcsfs") as raised:
        Folder.at("gs://bucket/store").list_files()
    assert "\n" not in str(raised.value)

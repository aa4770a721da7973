"""A file is there whole or not at all."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from shards.atomic import atomic_path, exclusive, remove_stale, write_atomic


def test_atomic_path_on_success_replaces_the_file_and_leaves_no_other(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file.txt"
    for content in ("old", "new"):
        with atomic_path(path) as temporary:
            temporary.write_text(content)
        assert path.read_text() == content
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_atomic_path_on_failure_keeps_the_old_file_and_leaves_no_other(
    tmp_path: Path, error: type[BaseException]
) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")

    def write_half() -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            assert path.read_text() == "old"
            raise error

    with pytest.raises(error):
        write_half()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_atomic_path_nothing_written_raises_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "file.txt"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_atomic_path_unfinished_file_is_invisible_to_a_shard_listing(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "shard-000000.tar") as temporary:
        temporary.write_bytes(b"half")
        assert list(tmp_path.glob("*.tar")) == []
        assert list(tmp_path.glob("shard-*")) == []


def test_what_a_killed_writer_left_goes_when_the_next_has_the_folder(tmp_path: Path) -> None:
    half, whole = tmp_path / ".weights.0123.tmp", tmp_path / "weights"
    for path in (half, whole):
        path.write_text("content")
    remove_stale(tmp_path)  # it may be at work
    assert half.exists()
    os.utime(half, (0, 0))
    remove_stale(tmp_path)
    assert not half.exists()
    half.write_text("content")
    time.sleep(0.01)  # clocks of files are coarse
    with exclusive(tmp_path):
        assert (half.exists(), whole.exists()) == (False, True)


def test_write_atomic_writes_text_as_utf8_and_bytes_as_they_are(tmp_path: Path) -> None:
    write_atomic(tmp_path / "text", "α\n")
    write_atomic(tmp_path / "bytes", b"\x00\xff")
    assert (tmp_path / "text").read_bytes() == "α\n".encode()
    assert (tmp_path / "bytes").read_bytes() == b"\x00\xff"

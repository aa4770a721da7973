"""Files that exist only when complete: written under a temporary name, fsynced, then renamed."""

from __future__ import annotations

import fcntl
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from shards.errors import UserError


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is fsynced and renamed to `path`, else
    removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{path.name}.{uuid.uuid4().hex}.tmp"
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if error.filename in (None, str(temporary)):  # say what was to be written
            error.filename, error.filename2 = str(path), None
        raise
    finally:
        temporary.unlink(missing_ok=True)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


@contextmanager
def exclusive(directory: Path) -> Iterator[None]:
    """Hold `directory` for this process, so that two of the same command cannot mix their files.

    The lock goes with the process, however it ends.

    Raises:
        UserError: if another process holds it.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"{directory}: another command is at work here; wait for it") from None
        yield


def remove_stale(directory: Path, written_before: float) -> None:
    """Delete what killed writers left in `directory`: temporary files untouched since that time.

    `written_before` is in seconds since the epoch; files of a writer at work are newer.
    """
    for path in directory.glob(".*.tmp"):
        with suppress(FileNotFoundError):
            if path.stat().st_mtime < written_before:
                path.unlink()


def write_atomic(path: Path, content: bytes | str) -> None:
    """Replace `path` by `content` (text is written as UTF-8), all of it or nothing."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)

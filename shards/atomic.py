"""Files that exist only when complete: written under a temporary name, fsynced, then renamed."""

from __future__ import annotations

import fcntl
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from shards.errors import InUse


@contextmanager
def atomic_path(path: Path, is_durable: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is fsynced and renamed to `path`, else
    removed. What is not durable is not fsynced: after a power failure it may be old or empty.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{path.name}.{uuid.uuid4().hex}.tmp"
    try:
        yield temporary
        if is_durable:
            _sync(temporary)
        os.replace(temporary, path)
    except OSError as error:
        if error.filename in (None, str(temporary)):  # say what was to be written
            error.filename, error.filename2 = str(path), None
        raise
    finally:
        temporary.unlink(missing_ok=True)
    if is_durable:
        _sync(path.parent)


def _sync(path: Path) -> None:
    """Bring a file, or the names in a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def exclusive(directory: Path) -> Iterator[None]:
    """Hold `directory` for this process, so that two of the same command cannot mix their files,
    and delete what killed ones have left half-written.

    The lock goes with the process, however it ends.

    Raises:
        InUse: if another process holds it.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InUse(f"{directory}: another command is at work here; wait for it") from None
        remove_stale(directory, older_than_s=0)
        yield


def remove_stale(directory: Path, older_than_s: float = 3600.0) -> None:
    """Delete what killed writers left in `directory`: temporary files untouched for so long. Files
    of a writer at work are newer.
    """
    written_before = time.time() - older_than_s
    for path in directory.glob(".*.tmp"):
        with suppress(FileNotFoundError):
            if path.stat().st_mtime < written_before:
                path.unlink()


def write_atomic(path: Path, content: bytes | str, is_durable: bool = True) -> None:
    """Replace `path` by `content` (text as UTF-8), all of it or nothing; see `atomic_path`."""
    with atomic_path(path, is_durable) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)

"""Paths and URLs of real images: patterns, listings and opening, on local disks and remote storage.

Neighbours: the sources; `shards/storage.py` knows the file systems.
"""

from __future__ import annotations

import glob
import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from pipeline.real.sources.source import File
from shards.errors import UserError
from shards.storage import StorageError, file_system

_PATTERN = set("*?[")


@dataclass(frozen=True)
class Found:
    """Something in a folder."""

    name: str
    is_folder: bool
    is_file: bool
    size: int
    stamp: int


def is_remote(location: str) -> bool:
    """Whether it is a URL."""
    return "://" in location


def absolute(location: str) -> str:
    """A path as workers find it, wherever they run; a URL as it is."""
    return location if is_remote(location) else os.path.abspath(location)


def join(folder: str, name: str) -> str:
    """The file `name` (with slashes) below `folder`."""
    return f"{folder.rstrip('/')}/{name}"


def expand(location: str, field: str) -> list[str]:
    """What braces and wildcards stand for, sorted; `location` alone where it has none.

    Raises:
        UserError: naming the config's `field`, if nothing is there.
    """
    import braceexpand

    if not is_remote(location) and os.path.lexists(location):
        return [location]
    try:
        texts = list(braceexpand.braceexpand(location)) if "{" in location else [location]
    except ValueError:  # braces that do not pair up are part of a name
        texts = [location]
    found: list[str] = []
    for text in texts:
        if not _PATTERN & set(text):
            found.append(text)
        elif is_remote(text):
            scheme = text.partition("://")[0]
            with speaking(text) as files:
                found += [f"{scheme}://{_plain(path)}" for path in sorted(files.glob(text))]
        else:
            found += sorted(glob.glob(text, recursive=True))
    absent = next((text for text in found if not exists(text)), None)
    if absent is not None or not found:
        raise UserError(f"{field}: {absent or location} is not there; correct the path")
    return found


def exists(location: str) -> bool:
    """Whether a file or folder is there."""
    if not is_remote(location):
        return os.path.exists(location)
    with speaking(location) as files:
        return bool(files.exists(location))


def is_folder(location: str) -> bool:
    """Whether a folder is there."""
    if not is_remote(location):
        return os.path.isdir(location)
    with speaking(location) as files:
        return bool(files.isdir(location))


def describe(location: str) -> File:
    """A file's size and time of change, or tag; raises FileNotFoundError."""
    if not is_remote(location):
        found = os.stat(location)
        return File(location, found.st_size, found.st_mtime_ns)
    with speaking(location) as files:
        info = files.info(location)
    return File(location, int(info["size"] or 0), _stamp(info))


def folder_time(folder: str) -> int:
    """When something in a local folder was added, removed or renamed last, in ns."""
    return os.stat(folder).st_mtime_ns


def scan(folder: str) -> list[Found]:
    """What lies in a folder, sorted by name; links are followed.

    Raises:
        UserError: if it cannot be listed.
    """
    if not is_remote(folder):
        return _scan_local(folder)
    with speaking(folder) as files:
        entries = files.ls(folder, detail=True)
    found = []
    for entry in entries:
        name = entry["name"].rstrip("/").rpartition("/")[2]
        if _plain(entry["name"]).rstrip("/") == _plain(folder).rstrip("/"):
            continue  # the object that marks the folder itself
        is_file = entry["type"] == "file"
        found.append(Found(name, not is_file, is_file, int(entry["size"] or 0), _stamp(entry)))
    return sorted(found, key=lambda entry: entry.name)


def _scan_local(folder: str) -> list[Found]:
    found = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                try:
                    status = entry.stat()
                except OSError:  # a link that leads nowhere, or in a circle
                    found.append(Found(entry.name, False, False, 0, 0))
                    continue
                is_dir, is_file = stat.S_ISDIR(status.st_mode), stat.S_ISREG(status.st_mode)
                found.append(Found(entry.name, is_dir, is_file, status.st_size, status.st_mtime_ns))
    except OSError as error:
        remedy = "its permissions" if isinstance(error, PermissionError) else "the disk it is on"
        raise UserError(f"{folder}: {error.strerror}; check {remedy}") from None
    return sorted(found, key=lambda entry: entry.name)


def open_file(location: str) -> BinaryIO:
    """A file to read and seek in; raises FileNotFoundError, and OSError."""
    if not is_remote(location):
        return Path(location).open("rb")
    with speaking(location) as files:
        opened: BinaryIO = files.open(location, "rb")
        return opened


class OneOpen:
    """Of several files the one that was asked for last, open; a context manager."""

    def __init__(self, files: Sequence[File]) -> None:
        self._files = files
        self._opened: tuple[int, BinaryIO] | None = None

    def __enter__(self) -> OneOpen:
        return self

    def __exit__(self, *_: object) -> None:
        if self._opened is not None:
            self._opened[1].close()
            self._opened = None

    def __getitem__(self, index: int) -> BinaryIO:
        if self._opened is None or self._opened[0] != index:
            self.__exit__()
            self._opened = index, open_file(self._files[index].url)
        return self._opened[1]


def read_file(location: str) -> bytes:
    """All of a file; raises as `open_file`."""
    if not is_remote(location):
        return Path(location).read_bytes()
    with speaking(location) as files:
        content: bytes = files.cat_file(location)
        return content


@contextmanager
def speaking(location: str) -> Iterator[Any]:
    """The file system of a URL; what goes wrong with it becomes a `StorageError`, but for a file
    that is not there.
    """
    scheme = location.partition("://")[0]
    try:
        yield file_system(scheme)
    except (UserError, FileNotFoundError, StorageError):
        raise
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise StorageError(location, reason[:300]) from None


@contextmanager
def in_words(field: str) -> Iterator[None]:
    """What goes wrong with a remote location, as one line that names the config's `field`."""
    try:
        yield
    except StorageError as error:
        raise UserError(
            f"{field}: {error.filename} cannot be read ({error.strerror}); check the address, and "
            "the credentials that this machine has for it"
        ) from None
    except FileNotFoundError as error:
        raise UserError(f"{field}: {error.filename or error} is not there") from None


def _plain(path: str) -> str:
    return path.partition("://")[2] or path


def _stamp(info: dict[str, Any]) -> int:
    for key in ("ETag", "etag", "md5Hash", "mtime", "LastModified", "updated"):
        if info.get(key) is not None:
            text = str(info[key]).encode()
            return int.from_bytes(hashlib.sha256(text).digest()[:7])
    return 0

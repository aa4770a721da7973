"""Paths and URLs of real images: patterns, listings and opening, on local disks and remote storage.

Neighbours: the sources; `shards/storage.py` knows the file systems.
"""

from __future__ import annotations

import errno
import glob
import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from pipeline.real.sources.source import File
from shards.errors import UserError
from shards.storage import StorageError, file_system

_PATTERN = set("*?[")


class Found(NamedTuple):
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
    """What braces and wildcards stand for, sorted; `location` alone where it has none. Of
    several URLs nobody asks whether they lead anywhere.

    Raises:
        UserError: naming the config's `field`, if a local path does not, or nothing fits.
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
    asked = found if len(found) == 1 else [text for text in found if not is_remote(text)]
    absent = next((text for text in asked if not exists(text)), None)
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


def describe_all(locations: Sequence[str]) -> tuple[File, ...]:
    """The same of many; a remote storage is asked once for each folder that they are in."""
    if not locations or not is_remote(locations[0]):
        return tuple(map(describe, locations))
    folders = dict.fromkeys(location.rpartition("/")[0] for location in locations)
    known: dict[str, File] = {}
    for folder in folders:
        with suppress(FileNotFoundError):
            for entry in scan(folder):
                url = join(folder, entry.name)
                known[url] = File(url, entry.size, entry.stamp)
    absent = next((location for location in locations if location not in known), None)
    if absent is not None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), absent)
    return tuple(known[location] for location in locations)


def folder_time(folder: str) -> int:
    """When something in a local folder was added, removed or renamed last, in ns."""
    return os.stat(folder).st_mtime_ns


def glance(folder: str) -> Iterator[tuple[str, bool]]:
    """Names in a folder and whether they are folders, as they come: quick where the first few tell
    enough.

    Raises:
        UserError: if it cannot be listed.
    """
    if is_remote(folder):
        yield from ((entry.name, entry.is_folder) for entry in scan(folder))
        return
    with _listing(folder) as entries:
        yield from ((entry.name, _is_folder(entry)) for entry in entries)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link in a circle
        return False


def scan(folder: str) -> Iterator[Found]:
    """What lies in a folder, sorted by name; links are followed. Of a local one with very many
    files no more than the names are in memory.

    Raises:
        UserError: if it cannot be listed.
    """
    return _scan_remote(folder) if is_remote(folder) else _scan_local(folder)


def _scan_remote(folder: str) -> Iterator[Found]:
    with speaking(folder) as files:
        entries = files.ls(folder, detail=True)
    found = []
    for entry in entries:
        name = entry["name"].rstrip("/").rpartition("/")[2]
        if _plain(entry["name"]).rstrip("/") == _plain(folder).rstrip("/"):
            continue  # the object that marks the folder itself
        is_file = entry["type"] == "file"
        found.append(Found(name, not is_file, is_file, int(entry["size"] or 0), _stamp(entry)))
    yield from sorted(found)


def _scan_local(folder: str) -> Iterator[Found]:
    with _listing(folder) as entries:
        names = sorted(entry.name for entry in entries)
    for name in names:
        try:
            status = os.stat(join(folder, name))
        except OSError:  # a link that leads nowhere, or in a circle
            yield Found(name, False, False, 0, 0)
            continue
        is_dir, is_file = stat.S_ISDIR(status.st_mode), stat.S_ISREG(status.st_mode)
        yield Found(name, is_dir, is_file, status.st_size, status.st_mtime_ns)


@contextmanager
def _listing(folder: str) -> Iterator[Iterator[os.DirEntry[str]]]:
    try:
        with os.scandir(folder) as entries:
            yield entries
    except OSError as error:
        remedy = "its permissions" if isinstance(error, PermissionError) else "the disk it is on"
        raise UserError(f"{folder}: {error.strerror}; check {remedy}") from None


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
    except (UserError, StorageError):
        raise
    except FileNotFoundError:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), location) from None
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

"""Folders of the store, on a local disk or in object storage: the only module that knows which.

Local files appear whole by rename, objects by a completed upload; either way a name is never half
there. Neighbours: `manifest.py` and `writer.py` write through this, `cache.py` brings objects here.
"""

from __future__ import annotations

import errno
import glob
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

from shards.atomic import atomic_path, write_atomic
from shards.errors import UserError

_DRIVERS = {"s3": "s3fs", "gs": "gcsfs"}
PATIENT_ATTEMPTS = 11
"""Of every request to a storage that has answered before: outages of half a minute are waited for.
One that has never answered is probably a wrong address, and given up within seconds."""
# s3fs tries everything five times itself; with botocore's own five a silent server takes 7 minutes
_OPTIONS: dict[str, Any] = {"s3": {"config_kwargs": {"retries": {"max_attempts": 1}}}}


class StorageError(OSError):
    """The storage refused or did not answer: `filename` is the URL, `strerror` the reason."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(errno.EIO, reason, url)

    def __reduce__(self) -> tuple[Any, ...]:
        return StorageError, (self.filename, self.strerror)


@dataclass(frozen=True)
class Folder:
    """A folder that may or may not exist yet: an absolute path, or `s3://…` or `gs://…`.

    Every operation raises `OSError` (`StorageError` for object storage) when it cannot be done.
    """

    url: str

    @classmethod
    def at(cls, location: str | Path) -> Folder:
        """The folder at a path (made absolute) or URL.

        Raises:
            UserError: for a URL that is not of `s3://` or `gs://`.
        """
        text = check_location(str(location))
        return cls(text.rstrip("/") if "://" in text else str(Path(text).expanduser().absolute()))

    def __truediv__(self, name: str) -> Folder:
        return Folder(f"{self.url}/{name}")

    def __str__(self) -> str:
        return self.url

    @property
    def name(self) -> str:
        """Last part of the path."""
        return self.url.rpartition("/")[2]

    @property
    def is_local(self) -> bool:
        """Whether files here can be opened and mapped as they are."""
        return "://" not in self.url

    @property
    def path(self) -> Path:
        """The folder as a path; only for a local one."""
        if not self.is_local:
            raise ValueError(f"{self.url} is not a local folder")
        return Path(self.url)

    def list_files(self) -> dict[str, int]:
        """Name -> size in bytes of every file right here, unfinished ones left out."""
        sizes = {
            entry["name"].rstrip("/").rpartition("/")[2]: int(entry["size"])
            for entry in self._list()
            if entry["type"] == "file"
        }
        return {name: size for name, size in sizes.items() if not name.startswith(".")}

    def list_folders(self) -> list[str]:
        """Names of the folders right here, sorted."""
        return sorted(
            Path(entry["name"]).name for entry in self._list() if entry["type"] == "directory"
        )

    def is_there(self) -> bool:
        """Whether the folder exists; of object storage, which has none, the bucket."""
        if self.is_local:
            return self.path.is_dir()
        with self._speaking() as files:
            return bool(files.exists(self._root.partition("/")[0]))

    def total_bytes(self) -> int:
        """Bytes of everything in the folder and below it; 0 for none."""
        try:
            with self._speaking() as files:
                return int(files.du(self._root, total=True))
        except FileNotFoundError:
            return 0

    def read(self, name: str) -> bytes:
        """Content of a file; raises FileNotFoundError."""
        with self._speaking(name) as files:
            content: bytes = files.cat_file(f"{self._root}/{name}")
            return content

    def size(self, name: str) -> int | None:
        """Bytes of a file; None if it is not there."""
        try:
            with self._speaking(name) as files:
                return int(files.size(f"{self._root}/{name}"))
        except FileNotFoundError:
            return None

    def write(self, name: str, content: bytes, is_durable: bool = True) -> None:
        """Replace a file, all of it or nothing. One that is not durable may be lost when the
        machine fails, and costs no waiting for the disk.
        """
        if self.is_local:
            write_atomic(self.path / name, content, is_durable)
            return
        with self._speaking(name, is_write=True) as files:
            files.pipe_file(f"{self._root}/{name}", content)

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """A local path to write the file `name` to; it is published when the block ends well."""
        if self.is_local:
            with atomic_path(self.path / name) as path:
                yield path
            return
        with tempfile.TemporaryDirectory(prefix="squeeze-and-span-") as folder:
            path = Path(folder) / name
            yield path
            with self._speaking(name, is_write=True) as files:
                files.put_file(str(path), f"{self._root}/{name}")

    @contextmanager
    def reading(self, name: str) -> Iterator[BinaryIO]:
        """A file to read and seek in; raises FileNotFoundError."""
        if self.is_local:
            with (self.path / name).open("rb") as file:
                yield file
            return
        with self._speaking(name) as files, files.open(f"{self._root}/{name}", "rb") as file:
            yield file

    def download(self, name: str, target: Path) -> None:
        """Copy a file to a local path; raises FileNotFoundError."""
        with self._speaking(name) as files:
            files.get_file(f"{self._root}/{name}", str(target))

    def remove(self, name: str) -> None:
        """Delete a file if it is there."""
        try:
            with self._speaking(name) as files:
                files.rm_file(f"{self._root}/{name}")
        except FileNotFoundError:
            pass

    def remove_all(self) -> None:
        """Delete the folder and all that is in it."""
        if self.is_local:
            shutil.rmtree(self.path)
            return
        with self._speaking() as files:
            files.rm(glob.escape(self._root), recursive=True)  # `rm` takes patterns

    @property
    def _root(self) -> str:
        return self.url.partition("://")[2] or self.url

    def _list(self) -> list[dict[str, Any]]:
        try:
            with self._speaking() as files:
                entries: list[dict[str, Any]] = files.ls(self._root, detail=True)
                for entry in entries:
                    if entry.get("islink"):  # fsspec does not look where links in a folder lead
                        is_folder = Path(entry["name"]).is_dir()
                        entry["type"] = "directory" if is_folder else "file"
                return entries
        except (FileNotFoundError, NotADirectoryError):
            return []

    @contextmanager
    def _speaking(self, name: str | None = None, is_write: bool = False) -> Iterator[Any]:
        """The file system; what goes wrong with a remote one becomes a `StorageError`, but for a
        file that is not there to be read.
        """
        scheme = self.url.partition("://")[0] if not self.is_local else "file"
        try:
            files = file_system(scheme)
            yield files
            if scheme == "s3":
                files.retries = PATIENT_ATTEMPTS
        except UserError:
            raise
        except Exception as error:
            if self.is_local or (isinstance(error, FileNotFoundError) and not is_write):
                raise
            url = self.url if name is None else f"{self.url}/{name}"
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise StorageError(url, reason[:300]) from error


def check_location(location: str) -> str:
    """`location` if a store can be there: a path, or a URL of `s3://` or `gs://`.

    Raises:
        UserError: for any other URL; shells and pipes are never opened.
    """
    scheme, separator, rest = location.partition("://")
    if location.startswith("pipe:") or "::" in location or (separator and scheme not in _DRIVERS):
        raise UserError(f"{location}: a store is a folder, s3://bucket/… or gs://bucket/…")
    if separator and not rest.strip("/"):
        raise UserError(f"{location}: name a bucket, as in {scheme}://bucket/store")
    return location


def file_system(scheme: str) -> Any:
    """fsspec's file system of URLs that begin with `scheme`://; `file`: the local one.

    Raises:
        UserError: if there is none, or its package is not installed.
    """
    import fsspec

    if scheme == "file":
        return fsspec.filesystem("file")
    try:
        if scheme == "s3":
            _repeat_refused_connections()
        return fsspec.filesystem(scheme, use_listings_cache=False, **_OPTIONS.get(scheme, {}))
    except ImportError as error:
        driver = _DRIVERS.get(scheme)
        remedy = f"needs the package {driver}; pip install {driver}" if driver else str(error)
        raise UserError(f"{scheme}://: reading it {remedy}") from None
    except ValueError:
        raise UserError(f"{scheme}://: no kind of storage; s3:// and gs:// are") from None


@cache
def _repeat_refused_connections() -> None:
    """s3fs repeats a request that was cut off, but not by itself one that found nobody there."""
    from botocore.exceptions import (  # type: ignore[import-untyped]
        ConnectionError as NobodyThere,
    )
    from s3fs.core import add_retryable_error  # type: ignore[import-untyped]

    add_retryable_error(NobodyThere)

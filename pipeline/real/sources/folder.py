"""A folder of images, of any depth: the first level below it has the classes.

Links are followed. Files right in the folder, and those below `unlabelled/`, have no label; a
folder without sub-folders that hold images has none at all.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from pipeline.real.decode import UnreadableError, is_image_name
from pipeline.real.sources.location import (
    describe,
    exists,
    expand,
    folder_time,
    is_remote,
    join,
    read_file,
    scan,
)
from pipeline.real.sources.source import Content, Entry, File, Findings, Reader, Row

UNLABELLED = ("unlabelled", "unlabeled")
_READERS = 16
"""Files that are asked of a remote storage at once."""


@dataclass(frozen=True)
class FolderSource:
    """Images below `root`."""

    root: str
    names: tuple[str, ...] | None = None
    files: tuple[File, ...] = ()

    def identity(self) -> dict[str, object]:
        """Its place."""
        return {"kind": "folder", "root": self.root}

    def locate(self, source: bytes) -> str:
        """Path or URL of an entry's file."""
        return join(self.root, os.fsdecode(source))

    def list_part(self, part: int, findings: Findings) -> Iterator[Entry]:
        """Files right here, then those of each sub-folder in turn, both sorted by name."""
        return self._walk("", None, frozenset(), findings)

    def open(self) -> Reader:
        """Files, each read when its turn comes."""
        return _FileReader(self.root)

    def _walk(
        self, below: str, label: str | None, above: frozenset[str], findings: Findings
    ) -> Iterator[Entry]:
        """Entries of the folder `below`; `above` are the real paths of those that it lies in."""
        folder = join(self.root, below) if below else self.root
        if not is_remote(folder):
            findings.folders.append((folder, folder_time(folder)))
            real = os.path.realpath(folder)
            if real in above:
                findings.left_out["links in a circle"] += 1
                return
            above |= {real}
        folders = []
        has_images = False
        for entry in scan(folder):
            if entry.name.startswith("."):
                findings.left_out["hidden"] += 1
            elif entry.is_folder:
                folders.append(entry.name)
            elif not is_image_name(entry.name):
                findings.left_out[kind_of(entry.name)] += 1
            else:
                has_images = True
                path = f"{below}/{entry.name}" if below else entry.name
                problem = None if entry.is_file else "no file, or a link that leads nowhere"
                yield Entry(
                    os.fsencode(path), label, size=entry.size, stamp=entry.stamp, problem=problem
                )
        for name in folders:
            inner = label if below else (None if name.lower() in UNLABELLED else _shown(name))
            deeper = f"{below}/{name}" if below else name
            for image in self._walk(deeper, inner, above, findings):
                has_images = True
                yield image
        if not has_images and below:
            findings.left_out["folders without images"] += 1


@dataclass(frozen=True)
class FilesSource:
    """Image files that a pattern names, without labels."""

    pattern: str
    names: tuple[str, ...] | None = None
    files: tuple[File, ...] = ()

    def identity(self) -> dict[str, object]:
        """The pattern, and the local files that it names now."""
        known = {"kind": "files", "pattern": self.pattern}
        if is_remote(self.pattern):
            return dict(known)
        names = "\0".join(expand(self.pattern, "real.train"))
        return {**known, "names": hashlib.sha256(os.fsencode(names)).hexdigest()}

    def locate(self, source: bytes) -> str:
        """Path or URL of an entry's file."""
        return os.fsdecode(source)

    def list_part(self, part: int, findings: Findings) -> Iterator[Entry]:
        """In the order of their names."""
        for path in expand(self.pattern, "real.train"):
            name = path.rpartition("/")[2]
            if name.startswith(".") or not is_image_name(name):
                findings.left_out["hidden" if name.startswith(".") else kind_of(name)] += 1
                continue
            found = describe(path)
            yield Entry(os.fsencode(path), size=found.size, stamp=found.stamp)

    def open(self) -> Reader:
        """As a folder's."""
        return _FileReader("")


class _FileReader:
    def __init__(self, root: str) -> None:
        self._root = root

    def read(self, rows: Sequence[Row]) -> Iterator[Content | Exception]:
        paths = [os.fsdecode(row.source) for row in rows]
        if self._root:
            paths = [join(self._root, path) for path in paths]
        if not paths or not is_remote(paths[0]):
            yield from map(self._read, paths)
            return
        with ThreadPoolExecutor(_READERS, "read") as threads:  # a storage answers after a while
            for first in range(0, len(paths), 4 * _READERS):
                yield from threads.map(self._read, paths[first : first + 4 * _READERS])

    def _read(self, path: str) -> Content | Exception:
        try:
            return read_file(path)
        except FileNotFoundError:
            if self._root and not exists(self._root):
                raise  # a disk that is not there rather than a file
            return UnreadableError("not there any more")
        except PermissionError:
            return UnreadableError("Permission denied; check its permissions")
        except IsADirectoryError:
            return UnreadableError("a folder")


def _shown(name: str) -> str:
    """A folder's name as text, also where it is none."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def kind_of(name: str) -> str:
    """How files that are left out are counted: by suffix."""
    return f".{name.rpartition('.')[2].lower()}" if "." in name else "without suffix"


def is_hidden(path: str) -> bool:
    """Whether a file in an archive, or a folder that it is in, is hidden or of macOS alone."""
    parts = path.split("/")
    return "__MACOSX" in parts or any(p.startswith(".") and p not in (".", "..") for p in parts)

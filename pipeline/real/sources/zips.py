"""Zip files of images, with or without the `dataset.json` of StyleGAN2-ADA's dataset tool.

Without one, folders within are classes as those of a folder are. Images are read where they lie,
without the list at the zip's end, which for a million of them takes a gigabyte.
"""

from __future__ import annotations

import json
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from pipeline.real.decode import UnreadableError, is_image_name
from pipeline.real.sources.folder import UNLABELLED, is_hidden, kind_of
from pipeline.real.sources.location import OneOpen, open_file
from pipeline.real.sources.source import Content, Entry, File, Findings, Reader, Row
from shards.errors import UserError

_LABELS = "dataset.json"
_HEADER = struct.Struct("<4s5H3I2H")
_ENCRYPTED = 1


@dataclass(frozen=True)
class ZipSource:
    """Images in zips, in the order of their names."""

    files: tuple[File, ...]
    below: str | None = None
    """Folder that holds them, right in the zip or in the only folder there; None: all of it."""
    names: tuple[str, ...] | None = None

    def identity(self) -> dict[str, object]:
        """The files, with sizes and times, and the folder."""
        return {"kind": "zip", "files": self.files, "below": self.below}

    def list_part(self, part: int, findings: Findings) -> Iterator[Entry]:
        """Images of one zip.

        Raises:
            UserError: if it is no zip, damaged, or protected by a password.
        """
        url = self.files[part].url
        try:
            with open_file(url) as file, zipfile.ZipFile(file) as archive:
                members = [info for info in archive.infolist() if not info.is_dir()]
                if any(info.flag_bits & _ENCRYPTED for info in members):
                    raise UserError(
                        f"{url}: protected by a password; unpack it, and name the folder"
                    )
                labels = _read_labels(archive, url)
        except (zipfile.BadZipFile, NotImplementedError, ValueError, zlib.error) as error:
            raise UserError(f"{url}: not a readable zip ({error}); fix or remove it") from None
        taken = []
        for info in members:
            name = info.filename.rpartition("/")[2]
            if is_hidden(info.filename):
                findings.left_out["hidden"] += 1
            elif is_image_name(name):
                taken.append(info)
            elif name != _LABELS:
                findings.left_out[kind_of(name)] += 1
        findings.has_numbers |= labels is not None
        taken.sort(key=lambda info: info.filename)
        if self.below is not None:
            paths = _paths_below(self.below, [info.filename for info in taken])
            taken = [info for info, path in zip(taken, paths, strict=True) if path is not None]
            folders = [_first_folder(path) for path in paths if path is not None]
        else:
            folders = _class_folders([info.filename for info in taken])
        for row, info in enumerate(taken):
            label = folders[row] if labels is None else labels.get(info.filename)
            yield Entry(
                os.fsencode(info.filename),
                label,
                part,
                info.header_offset,
                info.compress_size,
                info.CRC,
            )

    def open(self) -> Reader:
        """Of stored and deflated members."""
        return _ZipReader(self.files)


def _read_labels(archive: zipfile.ZipFile, url: str) -> dict[str, str | None] | None:
    """Name -> number of its class by `dataset.json`; None where there is none."""
    found = [name for name in archive.namelist() if name.rpartition("/")[2] == _LABELS]
    if not found:
        return None
    place = min(found, key=lambda name: (name.count("/"), name))
    below = place.removesuffix(_LABELS)
    try:
        labels = json.loads(archive.read(place))["labels"] or []
        return {f"{below}{name}": _number(label) for name, label in labels}
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{url}: its {_LABELS} is not the dataset tool's ({type(error).__name__}: {error}); "
            "fix or remove it"
        ) from None


def _number(label: object) -> str | None:
    """Class of a label: an int, or a one-hot vector; other vectors are no classes."""
    if isinstance(label, list):
        is_one_hot = sorted(label)[:-1] == [0] * (len(label) - 1) and max(label, default=0) == 1
        return str(label.index(1)) if is_one_hot else None
    return None if label is None or int(str(label)) < 0 else str(int(str(label)))


def _class_folders(paths: list[str]) -> list[str | None]:
    """First folder of each path below the one that all are in, None for those in it."""
    split = [_split(path) for path in paths]
    depth = 0
    while split and all(len(parts) > depth + 1 for parts in split):
        if len({parts[depth] for parts in split}) > 1:
            break
        depth += 1
    return [_first_folder(parts[depth:]) for parts in split]


def _paths_below(folder: str, paths: list[str]) -> list[list[str] | None]:
    """Parts of each path below `folder`, which lies right there or in the one folder that all are
    in; None for those elsewhere.
    """
    split = [_split(path) for path in paths]
    tops = {parts[0] for parts in split}
    depth = 1 if len(tops) == 1 and tops != {folder} else 0
    return [
        parts[depth + 1 :] if len(parts) > depth + 1 and parts[depth] == folder else None
        for parts in split
    ]


def _split(path: str) -> list[str]:
    return path.replace("\\", "/").split("/")  # as Windows once wrote them


def _first_folder(parts: list[str]) -> str | None:
    """The class of an image at such a path."""
    first = parts[0] if len(parts) > 1 else None
    return None if first and first.lower() in UNLABELLED else first


class _ZipReader:
    def __init__(self, files: tuple[File, ...]) -> None:
        self._files = files

    def read(self, rows: Sequence[Row]) -> Iterator[Content | Exception]:
        with OneOpen(self._files) as opened:
            for row in rows:
                yield _read(opened[row.file], row)


def _read(file: BinaryIO, row: Row) -> Content | Exception:
    file.seek(row.position)
    header = file.read(_HEADER.size)
    if len(header) < _HEADER.size:
        return UnreadableError("the zip ends before it")
    signature, _, _, method, *_, name_bytes, extra_bytes = _HEADER.unpack(header)
    if signature != b"PK\x03\x04":
        return UnreadableError("the zip has another member there")
    file.seek(row.position + _HEADER.size + name_bytes + extra_bytes)
    content = file.read(row.size)
    if method == zipfile.ZIP_STORED:
        return content
    if method != zipfile.ZIP_DEFLATED:
        return UnreadableError(f"compressed by method {method}; deflate can be read")
    try:
        return zlib.decompress(content, -zlib.MAX_WBITS)
    except zlib.error as error:
        return UnreadableError(f"damaged in the zip ({error})")

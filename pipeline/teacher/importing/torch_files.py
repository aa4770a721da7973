"""Files of `torch.save` as plain data: zip files, and the format before torch 1.6.

Both hold a pickle whose persistent ids name storages: members of the zip, or what follows the
pickles. Nothing is executed and storages stay in the file until a tensor of theirs is asked for.
Neighbour: `safe_pickle.py` reads the pickle.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from pipeline.teacher.importing.inert import brief, to_extents
from pipeline.teacher.importing.safe_pickle import load_pickle
from pipeline.teacher.importing.storages import Storage, StorageType, StoredSpan
from shards.errors import UserError

MAX_PICKLE_BYTES = 2**28
OLD_HEAD = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."
"""A pickle of the magic number."""
OLD_VERSION = 1001
_LOCAL_HEADER_BYTES = 30


def read_torch_zip(path: Path) -> Any:
    """The content of a zip file of torch.save, as `load_pickle` gives it.

    Raises:
        UserError: naming the file, for damaged ones and zip files of something else.
    """
    try:
        with zipfile.ZipFile(path) as archive, path.open("rb") as file:
            members = {member.filename: member for member in archive.infolist()}
            if any(member.compress_type != zipfile.ZIP_STORED for member in members.values()):
                raise UserError(
                    f"{path}: has compressed members, which torch does not write; "
                    "load it where it was made, and save it with torch.save"
                )
            pickles = [name for name in members if name.split("/")[1:] == ["data.pkl"]]
            if len(pickles) != 1 or members[pickles[0]].file_size > MAX_PICKLE_BYTES:
                raise UserError(
                    f"{path}: a zip file, but not of torch.save; name a checkpoint of a GAN"
                )
            folder = pickles[0].partition("/")[0]
            spans = _Members(path, file, members, folder)
            order = spans.read(f"{folder}/byteorder") if f"{folder}/byteorder" in members else b""
            if order not in (b"", b"little"):
                raise UserError(
                    f"{path}: written on a big-endian machine; save it on a little-endian one"
                )
            content = spans.read(pickles[0])
            size = path.stat().st_size
    except (zipfile.BadZipFile, EOFError, ValueError, NotImplementedError) as error:
        raise UserError(f"{path}: damaged ({brief(error)}); fetch it again") from None
    return load_pickle(path, io.BytesIO(content), size, spans.storage)


class _Members:
    """Members of the zip as spans of the file."""

    def __init__(
        self, path: Path, file: BinaryIO, members: Mapping[str, zipfile.ZipInfo], folder: str
    ) -> None:
        self._path = path
        self._folder = folder
        self._storages: dict[str, StoredSpan] = {}
        self._spans: dict[str, tuple[int, int]] = {}
        end = path.stat().st_size
        for name, member in members.items():
            file.seek(member.header_offset)
            header = file.read(_LOCAL_HEADER_BYTES)
            if len(header) < _LOCAL_HEADER_BYTES or header[:4] != b"PK\x03\x04":
                raise zipfile.BadZipFile("a member without its header")
            lengths = [int.from_bytes(header[at : at + 2], "little") for at in (26, 28)]
            start = member.header_offset + _LOCAL_HEADER_BYTES + sum(lengths)
            if start + member.file_size > end:
                raise zipfile.BadZipFile("a member beyond the end")
            self._spans[name] = start, member.file_size

    def read(self, name: str) -> bytes:
        start, num_bytes = self._spans[name]
        with self._path.open("rb") as file:
            file.seek(start)
            return file.read(num_bytes)

    def storage(self, pid: Any) -> Storage:
        """("storage", type, key, location, number of elements)."""
        kind, storage_type, key, _, num = pid
        if kind != "storage" or not isinstance(storage_type, StorageType):
            raise ValueError("a persistent id of no storage")
        if key not in self._storages:
            start, num_bytes = self._spans[f"{self._folder}/data/{key}"]
            self._storages[key] = StoredSpan(self._path, start, num_bytes, storage_type.dtype)
        storage = self._storages[key]
        storage.check(storage_type.dtype, num)
        return storage


def read_old_torch(path: Path) -> Any:
    """The content of a file in torch's format before 1.6: pickles, then raw storages.

    Raises:
        UserError: naming the file, for damaged ones.
    """
    size = path.stat().st_size
    spans: dict[str, StoredSpan] = {}

    def find(pid: Any) -> Any:
        if pid[0] == "module":  # (…, class, its file, its source), of a whole network
            return pid[1]
        kind, storage_type, key, _, num, view = pid
        if kind != "storage" or not isinstance(storage_type, StorageType) or view is not None:
            raise ValueError("a persistent id of no storage")
        (num,) = to_extents([num])
        num_bytes = num * storage_type.dtype.itemsize
        if not isinstance(key, str) or num_bytes > size:
            raise ValueError(f"a storage of {num_bytes} bytes in {size}")
        if key not in spans:
            spans[key] = StoredSpan(path, 0, num_bytes, storage_type.dtype)
        spans[key].check(storage_type.dtype, num)
        return spans[key]

    with path.open("rb") as file:
        file.seek(len(OLD_HEAD))
        version, machine = (load_pickle(path, file, size) for _ in range(2))
        is_little = isinstance(machine, dict) and machine.get("little_endian", True)
        if version != OLD_VERSION or not is_little:
            raise UserError(
                f"{path}: a torch file of an unknown version; save it again with a current torch"
            )
        content = load_pickle(path, file, size, find)
        keys = load_pickle(path, file, size)
        if not isinstance(keys, list) or sorted(map(repr, keys)) != sorted(map(repr, spans)):
            raise UserError(f"{path}: damaged (its storages are not those listed); fetch it again")
        for key in keys:
            span = spans[key]
            num = int.from_bytes(file.read(8), "little")
            span.start = file.tell()
            if num * span.dtype.itemsize != span.num_bytes or span.end > size:
                raise UserError(f"{path}: damaged (storage {key[:40]!a}); fetch it again")
            file.seek(span.end)
    return content

"""Writes one shard: samples in, one complete tar and its manifest row out. Byte-reproducible."""

from __future__ import annotations

import hashlib
import io
import tarfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np

from shards.codecs import encode_image
from shards.fixed_tar import MODE, encode_samples, end_of_tar
from shards.manifest import ShardInfo
from shards.schema import MAX_SAMPLE_BLOCKS, TAR_BLOCK_BYTES, Column, Schema, padded_bytes
from shards.storage import Folder

Arrays = Mapping[str, np.ndarray]


class ShardWriter:
    """The tar that is being written; `writing_shard` makes one."""

    def __init__(self, name: str, schema: Schema, start_index: int, file: BinaryIO) -> None:
        self._name = name
        self._schema = schema
        self._start = self._next = start_index
        self._file = _Hashed(file)
        self._blocks: list[int] = []
        self._tar: tarfile.TarFile | None = None
        if not schema.is_fixed:
            self._tar = _open_tar(self._file)

    def write(self, batch: Arrays) -> None:
        """Add samples: arrays [n, *column.shape] of the column's dtype, n free to vary; of an
        encoded column also an object array [n] of members as bytes, which are taken as they are.

        Raises:
            ValueError: if an array's shape or dtype is not its column's, or a sample is too large.
        """
        num_samples = _check(batch, self._schema)
        if self._tar is None:
            for samples in encode_samples(self._schema, self._next, batch):
                self._file.write(samples.reshape(-1).data)
            self._next += num_samples
            return
        for members in _encode(batch, self._schema):
            for name, content in members.items():
                member = tarfile.TarInfo(f"{self._next:09d}.{name}")
                member.size, member.mode = len(content), MODE
                self._tar.addfile(member, io.BytesIO(content))
            self._next += 1
            blocks = sum(map(padded_bytes, map(len, members.values()))) // TAR_BLOCK_BYTES
            if blocks > MAX_SAMPLE_BLOCKS:
                raise ValueError(f"a sample takes more than {MAX_SAMPLE_BLOCKS} tar blocks")
            self._blocks.append(blocks)

    def close(self) -> None:
        """Let go of the tar, finished or not."""
        if self._tar is not None:
            self._tar.close()

    def finish(self) -> ShardInfo:
        """End the tar; returns what the manifest says of it."""
        if self._tar is None:
            self._file.write(end_of_tar(self._file.num_bytes))
        self.close()
        sizes = None if self._schema.is_fixed else np.array(self._blocks, dtype="<u2").tobytes()
        return ShardInfo(
            self._name,
            self._start,
            self._next - self._start,
            self._file.num_bytes,
            self._file.digest,
            sizes,
            time.time(),
        )


class _Hashed:
    """A file that knows size and SHA-256 of what went through it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self.num_bytes = 0

    def write(self, content: bytes | memoryview) -> int:
        self._hash.update(content)
        self.num_bytes += len(content)
        return self._file.write(content)

    def close(self) -> None:
        self._file.flush()

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()


def _open_tar(file: _Hashed) -> tarfile.TarFile:
    """A tar of the bytes that `webdataset.TarWriter` writes, which would load torch."""
    stream: Any = file
    return tarfile.open(fileobj=stream, mode="w|", format=tarfile.USTAR_FORMAT)


class PendingShard:
    """What `writing_shard` yields: `writer` to write with; `info` once the block has ended well."""

    writer: ShardWriter
    info: ShardInfo


@contextmanager
def writing_shard(
    folder: Folder, name: str, schema: Schema, start_index: int
) -> Iterator[PendingShard]:
    """Write samples `start_index`, `start_index + 1`, … to the shard `name` of `folder`, which is
    complete there when the block has ended well, and untouched if not.
    """
    pending = PendingShard()
    with folder.writing(name) as path, path.open("wb", buffering=1 << 20) as file:
        pending.writer = ShardWriter(name, schema, start_index, file)
        try:
            yield pending
            pending.info = pending.writer.finish()
        finally:
            pending.writer.close()  # else the tar ends itself later, on a file that is closed


def write_shard(
    folder: Folder, name: str, schema: Schema, start_index: int, batches: Iterable[Arrays]
) -> ShardInfo:
    """Write all of `batches` to one shard, as `writing_shard` and `ShardWriter.write` do."""
    with writing_shard(folder, name, schema, start_index) as pending:
        for batch in batches:
            pending.writer.write(batch)
    return pending.info


def _check(batch: Arrays, schema: Schema) -> int:
    """Number of samples of a batch that is the schema's."""
    names = {column.name for column in schema.columns}
    if set(batch) != names:
        raise ValueError(f"columns {sorted(batch)} are not the schema's {sorted(names)}")
    counts = {len(array) for array in batch.values()}
    if len(counts) != 1:
        raise ValueError(f"columns of unequal length: {sorted(counts)}")
    for column in schema.columns:
        array = batch[column.name]
        if column.is_encoded and array.dtype == object and array.ndim == 1:
            continue
        if array.shape[1:] != column.shape or array.dtype != np.dtype(column.dtype):
            raise ValueError(
                f"{column.name}: {array.dtype}{array.shape[1:]} is not {column.dtype}{column.shape}"
            )
    return counts.pop()


def _encode(batch: Arrays, schema: Schema) -> Iterator[dict[str, bytes]]:
    """Members of each sample, one column of which is encoded."""
    columns = [(column, batch[column.name]) for column in schema.columns]
    for row in range(len(columns[0][1])):
        yield {column.member_name: _encode_member(column, array[row]) for column, array in columns}


def _encode_member(column: Column, value: Any) -> bytes:
    if type(value) is bytes:  # not a numpy string
        return value
    return encode_image(value, column) if column.is_encoded else column.header + value.tobytes()

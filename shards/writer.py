"""Writes one shard: samples in, one complete tar and its manifest row out. Byte-reproducible."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

os.environ.setdefault("WDS_SECURE", "1")  # before the import: no `pipe:` URLs, no pickled members
import webdataset

from shards.atomic import atomic_path
from shards.manifest import ShardInfo
from shards.schema import Schema

Arrays = Mapping[str, np.ndarray]


def shard_name(shard_index: int) -> str:
    """File name of a shard."""
    return f"shard-{shard_index:06d}.tar"


def write_shard(
    path: Path, schema: Schema, start_index: int, batches: Iterable[Arrays]
) -> ShardInfo:
    """Write samples `start_index`, `start_index + 1`, … to `path` and return what the manifest says
    of it.

    Args:
        path: complete or absent, never partial.
        schema: columns; every batch must have exactly these.
        start_index: index of the first sample.
        batches: arrays [n, *column.shape] of the column's dtype, one per column, n free to vary.

    Raises:
        ValueError: if an array's shape or dtype is not its column's.
    """
    index = start_index
    with atomic_path(path) as temporary:
        with (
            temporary.open("wb") as file,
            webdataset.TarWriter(file, encoder=False, mtime=0, user="", group="") as tar,
        ):
            for batch in batches:
                for members in _encode(batch, schema):
                    tar.write({"__key__": f"{index:09d}", **members})
                    index += 1
        with temporary.open("rb") as written:
            digest = hashlib.file_digest(written, "sha256").hexdigest()
        num_bytes = temporary.stat().st_size
    return ShardInfo(path.name, start_index, index - start_index, num_bytes, digest)


def _encode(batch: Arrays, schema: Schema) -> Iterable[dict[str, bytes]]:
    names = {column.name for column in schema.columns}
    if set(batch) != names:
        raise ValueError(f"columns {sorted(batch)} are not the schema's {sorted(names)}")
    counts = {len(array) for array in batch.values()}
    if len(counts) != 1:
        raise ValueError(f"columns of unequal length: {sorted(counts)}")
    for column in schema.columns:
        array = batch[column.name]
        if array.shape[1:] != column.shape or array.dtype != np.dtype(column.dtype):
            raise ValueError(
                f"{column.name}: {array.dtype}{array.shape[1:]} is not {column.dtype}{column.shape}"
            )
    members = [(column.member_name, column.header, batch[column.name]) for column in schema.columns]
    for row in range(counts.pop()):
        yield {name: header + array[row].tobytes() for name, header, array in members}

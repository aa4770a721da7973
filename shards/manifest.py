"""The list of a folder's shards: Parquet files under `manifest/`, one row per shard, the schema in
their metadata. A shard that no part lists does not exist.

Every writer has parts of its own and rewrites no other's, so any number of them may work on one
folder without a lock, on any storage. Where two parts list the same shard, the row written last
counts.
"""

from __future__ import annotations

import io
import json
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from shards.errors import UserError
from shards.schema import SCHEMA_VERSION, Column, FeatureBlock, Schema
from shards.storage import Folder

MANIFEST_FOLDER = "manifest"
MAX_PART_ROWS = 1000
_CLOCK_STEP_S = 1e-3
_ARROW_SCHEMA = pa.schema(
    [
        ("name", pa.string()),
        ("start_index", pa.int64()),
        ("num_samples", pa.int64()),
        ("num_bytes", pa.int64()),
        ("sha256", pa.string()),
        ("sample_blocks", pa.binary()),
        ("written_at", pa.float64()),
    ]
)


@dataclass(frozen=True)
class ShardInfo:
    """One row: file name, index of the first sample, samples, size and digest of the file."""

    name: str
    start_index: int
    num_samples: int
    num_bytes: int
    sha256: str
    sample_blocks: bytes | None = None
    """Tar blocks (512 bytes) of each sample, little-endian uint16; None where all are the same."""
    written_at: float = 0.0
    """Seconds since the epoch, by the writer's clock."""


@dataclass(frozen=True)
class Manifest:
    """Shards sorted by `start_index`, and the columns that all of them have."""

    schema: Schema
    shards: tuple[ShardInfo, ...]

    @property
    def num_samples(self) -> int:
        """Samples from index 0 up to the first gap: a lost shard hides those after it."""
        count = 0
        for shard in self.shards:
            if shard.start_index != count:
                break
            count += shard.num_samples
        return count


class ManifestWriter:
    """Adds rows to the manifest of `folder`, in parts that belong to this writer."""

    def __init__(self, folder: Folder, schema: Schema) -> None:
        self._folder = folder
        self._parts = folder / MANIFEST_FOLDER
        self._earlier: dict[str, float] | None = None
        self._schema = schema
        self._name = uuid.uuid4().hex[:12]
        self._part = 0
        self._rows: list[ShardInfo] = []
        self._num_written = 0

    def add(self, shard: ShardInfo) -> None:
        """Remember a row; `flush` makes it visible. It counts more than earlier ones of the same
        shard, whatever the clocks of their writers.
        """
        if self._earlier is None:
            manifest = read_manifest(self._folder)
            rows = manifest.shards if manifest is not None else ()
            self._earlier = {row.name: row.written_at for row in rows}
        if shard.name in self._earlier:
            after = self._earlier[shard.name] + _CLOCK_STEP_S
            shard = replace(shard, written_at=max(shard.written_at, after))
        self._rows.append(shard)

    def flush(self) -> None:
        """Make all rows so far visible."""
        if self._num_written == len(self._rows):
            return
        self._parts.write(
            f"{self._name}-{self._part:04d}.parquet", encode_part(self._schema, self._rows)
        )
        self._num_written = len(self._rows)
        if len(self._rows) >= MAX_PART_ROWS:  # what is rewritten every time stays small
            self._rows, self._num_written, self._part = [], 0, self._part + 1


def encode_part(schema: Schema, shards: Iterable[ShardInfo]) -> bytes:
    """Bytes of one Parquet part."""
    columns = [
        {
            **asdict(column),
            "member_name": column.member_name,
            "offset_bytes": schema.offset_bytes(column.name) if schema.is_fixed else None,
            "num_bytes": None if column.is_encoded else column.num_bytes,
        }
        for column in schema.columns
    ]
    metadata = {
        "schema_version": str(SCHEMA_VERSION),
        "columns": json.dumps(columns),
        "stride_bytes": json.dumps(schema.stride_bytes if schema.is_fixed else None),
        "features": json.dumps([asdict(block) for block in schema.features]),
    }
    table = pa.Table.from_pylist(
        [vars(shard) for shard in shards], schema=_ARROW_SCHEMA.with_metadata(metadata)
    )
    buffer = io.BytesIO()
    pq.write_table(table, buffer, write_page_checksum=True)
    return buffer.getvalue()


def write_manifest(folder: Folder, manifest: Manifest) -> None:
    """Make `manifest` the whole manifest of `folder`: for a single writer of all its shards."""
    parts = folder / MANIFEST_FOLDER
    name = "all.parquet"
    parts.write(name, encode_part(manifest.schema, manifest.shards))
    for other in parts.list_files():
        if other != name:
            parts.remove(other)


def read_manifest(folder: Folder) -> Manifest | None:
    """Manifest of `folder`, or None where there is none yet.

    Raises:
        UserError: for a damaged part, or parts of another schema or version.
    """
    parts = folder / MANIFEST_FOLDER
    schema: Schema | None = None
    newest: dict[str, ShardInfo] = {}
    for name in sorted(parts.list_files()):
        if not name.endswith(".parquet"):
            continue
        part = _read_part(parts, name)
        if schema is not None and part.schema != schema:
            raise _damaged(f"{parts}/{name}", "another schema than its neighbours'")
        schema = part.schema
        for shard in part.shards:
            found = newest.get(shard.name)
            if found is None or shard.written_at >= found.written_at:
                newest[shard.name] = shard
    if schema is None:
        return None
    return Manifest(schema, tuple(sorted(newest.values(), key=lambda shard: shard.start_index)))


class ManifestFollower:
    """Rows that other writers add to the manifest of `folder`, without reading all of it again.

    Parts only grow, and every row has a digest that does not compress: a part of the size that it
    had before has the rows that it had.
    """

    def __init__(self, folder: Folder) -> None:
        self._parts = folder / MANIFEST_FOLDER
        self._sizes: dict[str, int] = {}

    def look(self) -> Iterator[ShardInfo]:
        """Rows of every part that is new or has grown since the last look, of all at the first;
        raises as `read_manifest` does.
        """
        for name, size in self._parts.list_files().items():
            if name.endswith(".parquet") and self._sizes.get(name) != size:
                yield from _read_part(self._parts, name).shards
                self._sizes[name] = size


def shard_name(shard_index: int) -> str:
    """File name of a shard."""
    return f"shard-{shard_index:06d}.tar"


def _read_part(parts: Folder, name: str) -> Manifest:
    url = f"{parts}/{name}"
    content = parts.read(name)
    try:
        # Without threads: Arrow's own may outlive the interpreter, and abort it.
        file = pq.ParquetFile(
            pa.BufferReader(content), pre_buffer=False, page_checksum_verification=True
        )
        table = file.read(use_threads=False)
        metadata = {k.decode(): v.decode() for k, v in (table.schema.metadata or {}).items()}
    except (pa.ArrowException, OSError, MemoryError, UnicodeDecodeError) as error:
        raise _damaged(url, error) from None
    version = metadata.get("schema_version")
    if version != str(SCHEMA_VERSION):
        raise UserError(
            f"{url}: shards of schema {version}, this version reads {SCHEMA_VERSION}; make them "
            "again with `make real` and `make generate` (the old ones stay until "
            "`python -m pipeline shards gc --delete`)"
        )
    try:
        return _parse(table, metadata)
    except (KeyError, TypeError, ValueError, MemoryError) as error:
        raise _damaged(url, error) from None


def _parse(table: pa.Table, metadata: dict[str, str]) -> Manifest:
    columns = tuple(
        Column(row["name"], row["dtype"], tuple(row["shape"]), row["codec"], row["quality"])
        for row in json.loads(metadata["columns"])
    )
    features = tuple(FeatureBlock(**row) for row in json.loads(metadata["features"]))
    schema = Schema(columns, features)
    shards = tuple(ShardInfo(**row) for row in table.to_pylist())
    for shard in shards:
        _check(shard, schema)
    return Manifest(schema, shards)


def _check(shard: ShardInfo, schema: Schema) -> None:
    values: dict[str, Any] = vars(shard)
    if any(value is None for name, value in values.items() if name != "sample_blocks"):
        raise ValueError(f"row {shard.name!r} has empty fields")
    if "/" in shard.name or shard.num_samples < 1 or shard.start_index < 0:
        raise ValueError(f"row {shard.name!r} cannot be right")
    if (shard.sample_blocks is None) != schema.is_fixed:
        raise ValueError(f"row {shard.name!r}: sizes of samples do not fit the columns")
    if schema.sample_offsets(shard.num_samples, shard.sample_blocks)[-1] > shard.num_bytes:
        raise ValueError(f"{shard.name} is too small for {shard.num_samples} samples")


def _damaged(url: str, reason: object) -> UserError:
    return UserError(
        f"{url}: damaged ({' '.join(str(reason).split())}); delete this file and make its shards "
        "again"
    )

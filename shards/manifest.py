"""The verified list of a store's shards: one Parquet file, one row per shard, the schema in its
metadata.

Written by one process only, after the shards it lists; a shard that is not in the manifest does not
exist.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from shards.atomic import atomic_path
from shards.errors import UserError
from shards.schema import SCHEMA_VERSION, Column, FeatureBlock, Schema

MANIFEST_FILE = "manifest.parquet"
_ARROW_SCHEMA = pa.schema(
    [
        ("name", pa.string()),
        ("start_index", pa.int64()),
        ("num_samples", pa.int64()),
        ("num_bytes", pa.int64()),
        ("sha256", pa.string()),
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

    def has_right_size(self, directory: Path) -> bool:
        """Whether the file is in `directory` and as large as it should be."""
        path = directory / self.name
        return path.exists() and path.stat().st_size == self.num_bytes


@dataclass(frozen=True)
class Manifest:
    """Shards sorted by `start_index`, and the columns that all of them have."""

    schema: Schema
    shards: tuple[ShardInfo, ...]

    @property
    def num_samples(self) -> int:
        """Samples from index 0 up to the first gap: a lost shard hides those after it."""
        count = 0
        for shard in sorted(self.shards, key=lambda shard: shard.start_index):
            if shard.start_index != count:
                break
            count += shard.num_samples
        return count


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Replace the manifest of `directory`."""
    rows = [asdict(shard) for shard in sorted(manifest.shards, key=lambda shard: shard.start_index)]
    metadata = {
        "schema_version": str(SCHEMA_VERSION),
        "columns": json.dumps(
            [
                {
                    **asdict(column),
                    "offset_bytes": manifest.schema.offset_bytes(column.name),
                    "num_bytes": column.num_bytes,
                }
                for column in manifest.schema.columns
            ]
        ),
        "stride_bytes": str(manifest.schema.stride_bytes),
        "features": json.dumps([asdict(block) for block in manifest.schema.features]),
    }
    table = pa.Table.from_pylist(rows, schema=_ARROW_SCHEMA.with_metadata(metadata))
    with atomic_path(directory / MANIFEST_FILE) as path:
        pq.write_table(table, path)


def read_manifest(directory: Path) -> Manifest | None:
    """Manifest of `directory`, or None where there is none yet.

    Raises:
        UserError: for a damaged manifest or one of another schema version.
    """
    path = directory / MANIFEST_FILE
    if not path.exists():
        return None
    try:
        table = pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(
            f"{path}: damaged ({_one_line(error)}); delete it and make these shards again"
        ) from None
    metadata = {
        key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()
    }
    if metadata.get("schema_version") != str(SCHEMA_VERSION):
        raise UserError(
            f"{path}: shard schema {metadata.get('schema_version')}, this version reads "
            f"{SCHEMA_VERSION}; "
            "delete the folder and make these shards again"
        )
    try:
        return _parse(table, metadata)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path}: damaged ({_one_line(error)}); delete it and make these shards again"
        ) from None


def _parse(table: pa.Table, metadata: dict[str, str]) -> Manifest:
    columns = tuple(
        Column(row["name"], row["dtype"], tuple(row["shape"]))
        for row in json.loads(metadata["columns"])
    )
    features = tuple(FeatureBlock(**row) for row in json.loads(metadata["features"]))
    schema = Schema(columns, features)
    shards = tuple(ShardInfo(**row) for row in table.to_pylist())
    for shard in shards:
        if Path(shard.name).name != shard.name or shard.num_samples < 1:
            raise ValueError(f"row {shard.name!r} cannot be right")
        if shard.num_samples * schema.stride_bytes > shard.num_bytes:
            raise ValueError(f"{shard.name} is too small for {shard.num_samples} samples")
    return Manifest(schema, shards)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())

"""What manifests list, by hand: rows of shards that need not be there."""

from __future__ import annotations

from shards.manifest import (
    MANIFEST_FOLDER,
    ShardInfo,
    encode_part,
    read_manifest,
    shard_name,
)
from shards.storage import Folder
from tests.support.shard_sets import INDEX_SCHEMA

PER_SHARD = 4


def row(index: int, written_at: float = 1.0, sha256: str = "a" * 64) -> ShardInfo:
    """What a manifest says of the shard `index` of four samples."""
    num_bytes = PER_SHARD * INDEX_SCHEMA.stride_bytes + 1024
    name = shard_name(index)
    return ShardInfo(name, index * PER_SHARD, PER_SHARD, num_bytes, sha256, None, written_at)


def list_shards(folder: Folder) -> list[ShardInfo]:
    """What is read there."""
    manifest = read_manifest(folder)
    assert manifest is not None
    assert manifest.schema == INDEX_SCHEMA
    return list(manifest.shards)


def write_part(folder: Folder, name: str, *rows: ShardInfo) -> None:
    """One part that lists these."""
    (folder / MANIFEST_FOLDER).write(name, encode_part(INDEX_SCHEMA, rows))

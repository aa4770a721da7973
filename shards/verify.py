"""Full check of shards against their manifest."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from shards.errors import UserError
from shards.manifest import ShardInfo
from shards.reader import ShardReader, check_size


def verify_shards(directory: Path, shards: list[ShardInfo], remedy: str) -> Iterator[ShardInfo]:
    """Yield each shard whose size and sha256 are the manifest's.

    Raises:
        UserError: naming the first shard that is missing, truncated or altered, and `remedy`.
    """
    for shard in shards:
        check_size(directory, shard, remedy)
        with (directory / shard.name).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != shard.sha256:
            raise UserError(
                f"{directory / shard.name}: content differs from the manifest (sha256); {remedy}"
            )
        yield shard


def open_verified(directory: Path, *, remedy: str, num_samples: int | None = None) -> ShardReader:
    """A reader whose shards have all been checked first; raises as `verify_shards` does."""
    reader = ShardReader(directory, remedy=remedy, num_samples=num_samples)
    for _ in verify_shards(directory, reader.shards, remedy):
        pass
    return reader

"""Full check of shards against their manifest."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from shards.codecs import decode_image
from shards.errors import UserError
from shards.manifest import Manifest, ShardInfo
from shards.reader import ShardReader, check_size
from shards.schema import Column, Schema
from shards.storage import Folder


@dataclass(frozen=True)
class Finding:
    """What a look at one shard found; `problem` is None for a sound one."""

    shard: ShardInfo
    problem: str | None


def inspect_shards(folder: Folder, manifest: Manifest) -> Iterator[Finding]:
    """Look at every shard that `manifest` lists: presence, size, SHA-256, then its content member
    by member: names, order, counts, indices, finite values.
    """
    sizes = folder.list_files()
    expected_start = 0
    for shard in manifest.shards:
        if shard.start_index < expected_start:
            problem: str | None = f"starts at sample {shard.start_index}, inside the one before"
        else:
            problem = _find_problem(folder, shard, manifest.schema, sizes.get(shard.name))
        expected_start = shard.start_index + shard.num_samples
        yield Finding(shard, problem)


def _find_problem(folder: Folder, shard: ShardInfo, schema: Schema, size: int | None) -> str | None:
    if size is None:
        return "is missing"
    if size != shard.num_bytes:
        return f"has {size} bytes instead of {shard.num_bytes}"
    content = folder.read(shard.name)
    digest = hashlib.sha256(content).hexdigest()
    problem = _first_problem(content, shard, schema)  # where the damage shows, if it does
    if digest != shard.sha256:
        differs = f"sha256 {digest[:12]}… instead of {shard.sha256[:12]}…"
        return f"content differs from the manifest ({differs}{f'; {problem}' if problem else ''})"
    return problem


def _first_problem(content: bytes, shard: ShardInfo, schema: Schema) -> str | None:
    """The first thing in a tar that its schema does not allow."""
    names = [
        f"{index:09d}.{column.member_name}"
        for index in range(shard.start_index, shard.start_index + shard.num_samples)
        for column in schema.columns
    ]
    offsets = schema.sample_offsets(shard.num_samples, shard.sample_blocks)
    try:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as tar:
            members = tar.getmembers()
    except tarfile.TarError as error:
        return f"no tar ({error})"
    for position, (name, member) in enumerate(zip(names, members, strict=False)):
        if member.name != name:
            return f"member {position} is {member.name!r} instead of {name!r}"
        row, place = divmod(position, len(schema.columns))
        if place == 0 and member.offset != offsets[row]:
            return f"{name} starts at byte {member.offset} instead of {offsets[row]}"
        column = schema.columns[place]
        raw = content[member.offset_data : member.offset_data + member.size]
        if problem := _value_problem(raw, column):
            return f"{name}: {problem}"
    if len(members) != len(names):
        return f"has {len(members)} members instead of {len(names)}"
    return None


def _value_problem(raw: bytes, column: Column) -> str | None:
    if column.is_encoded:
        try:
            decode_image(raw, column)
        except ValueError as error:
            return str(error)
        return None
    if len(raw) != column.num_bytes:
        return f"{len(raw)} bytes instead of {column.num_bytes}"
    if not raw.startswith(column.header):
        return "another array type or shape"
    if np.dtype(column.dtype).kind == "f":
        values = np.frombuffer(raw, column.dtype, offset=len(column.header))
        if not np.isfinite(values).all():
            return f"{int((~np.isfinite(values)).sum())} values are not finite"
    return None


def verify_digests(reader: ShardReader) -> Iterator[ShardInfo]:
    """Yield each shard of `reader` whose size and sha256 are the manifest's. Remote ones are
    checked when they come to the cache, and passed here unread.

    Raises:
        UserError: naming the first shard that is missing, truncated or altered, and the remedy.
    """
    sizes = reader.folder.list_files()
    for shard in reader.shards:
        check_size(reader.folder, shard, sizes.get(shard.name), reader.remedy)
        _verify(reader, shard)
        yield shard


def verify_shards(reader: ShardReader, indices: Iterable[int]) -> None:
    """Check the sha256 of some shards, by their place in `reader.shards`; raises as
    `verify_digests` does.
    """
    for index in indices:
        _verify(reader, reader.shards[index])


def _verify(reader: ShardReader, shard: ShardInfo) -> None:
    if not reader.folder.is_local:
        return
    with (reader.folder.path / shard.name).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != shard.sha256:
        raise UserError(
            f"{reader.folder}/{shard.name}: content differs from the manifest (sha256); "
            f"delete it and {reader.remedy}"
        )


def verified(reader: ShardReader) -> ShardReader:
    """`reader`, all of whose shards have been checked first; raises as `verify_digests` does."""
    for _ in verify_digests(reader):
        pass
    return reader

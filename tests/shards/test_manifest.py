"""The list of shards: what it holds, in parts, and how damage to it is put."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shards.errors import UserError
from shards.manifest import (
    MANIFEST_FOLDER,
    ShardInfo,
    encode_part,
    read_manifest,
    shard_name,
    write_manifest,
)
from shards.schema import SCHEMA_VERSION, Column, Schema
from shards.storage import Folder
from tests.support.manifest_rows import PER_SHARD, list_shards, row, write_part
from tests.support.tiny_shards import RESOLUTION, real_arrays, write_real_shards


def find_part(folder: Path) -> Path:
    (part,) = (folder / MANIFEST_FOLDER).iterdir()
    return part


def test_manifest_holds_offsets_that_other_tools_can_use(tmp_path: Path) -> None:
    write_real_shards(tmp_path, num_samples=10, samples_per_shard=10)
    metadata = pq.read_schema(find_part(tmp_path)).metadata
    columns = {column["name"]: column for column in json.loads(metadata[b"columns"])}
    content = (tmp_path / shard_name(0)).read_bytes()
    start = 3 * int(metadata[b"stride_bytes"]) + columns["image"]["offset_bytes"]
    size = 3 * RESOLUTION**2
    image = np.frombuffer(content[start : start + size], np.uint8)
    np.testing.assert_array_equal(image, real_arrays(10)["image"][3].reshape(-1))


def test_manifest_round_trip_sorts_shards_by_index(tmp_path: Path) -> None:
    folder, manifest = Folder.at(tmp_path), write_real_shards(tmp_path, num_samples=40)
    write_manifest(folder, replace(manifest, shards=manifest.shards[::-1]))
    assert read_manifest(folder) == manifest
    assert manifest.num_samples == 40


def test_manifest_of_a_folder_without_one_is_none(folder: Folder) -> None:
    assert read_manifest(folder) is None


def test_manifest_other_and_unfinished_files_beside_the_parts_are_passed_over(
    tmp_path: Path,
) -> None:
    folder = Folder.at(tmp_path)
    write_part(folder, "a.parquet", row(0))
    (folder / MANIFEST_FOLDER).write("notes.txt", b"x")
    (tmp_path / MANIFEST_FOLDER / ".b.parquet.0123.tmp").write_bytes(b"half")
    assert list_shards(folder) == [row(0)]


# Refused


@pytest.mark.parametrize("version", ["0", "1", str(SCHEMA_VERSION + 1), None])
def test_manifest_of_another_schema_version_is_refused_with_the_commands(
    folder: Folder, version: str | None
) -> None:
    write_part(folder, "new.parquet", row(0))
    table = pq.read_table(pa.BufferReader((folder / MANIFEST_FOLDER).read("new.parquet")))
    metadata = {**table.schema.metadata, b"schema_version": version}
    metadata = {key: value for key, value in metadata.items() if value is not None}
    buffer = pa.BufferOutputStream()
    pq.write_table(table.replace_schema_metadata(metadata), buffer)
    (folder / MANIFEST_FOLDER).write("old.parquet", buffer.getvalue().to_pybytes())
    with pytest.raises(UserError, match=rf"old\.parquet: shards of schema {version},") as raised:
        read_manifest(folder)
    assert "`make real` and `make generate`" in str(raised.value)
    assert "python -m pipeline shards gc" in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"no parquet at all", 10, 500, -100])
def test_manifest_damaged_part_is_named_with_the_remedy(
    folder: Folder, content: bytes | int
) -> None:
    """Numbers are of bytes that are left of it, or gone."""
    for name in ("a.parquet", "b.parquet", "c.parquet"):
        write_part(folder, name, row(0))
    sound = (folder / MANIFEST_FOLDER).read("b.parquet")
    if isinstance(content, int):
        content = sound[:content]
    (folder / MANIFEST_FOLDER).write("b.parquet", content)
    with pytest.raises(UserError, match=r"manifest/b\.parquet: damaged .*delete this") as raised:
        read_manifest(folder)
    assert "\n" not in str(raised.value)
    (folder / MANIFEST_FOLDER).remove("b.parquet")
    assert list_shards(folder) == [row(0)]


def test_manifest_with_a_flipped_byte_is_read_or_refused_but_never_crashes(tmp_path: Path) -> None:
    folder = Folder.at(tmp_path)
    write_part(folder, "a.parquet", row(0), row(1))
    sound = (folder / MANIFEST_FOLDER).read("a.parquet")
    for position in range(0, len(sound), 37):
        content = bytearray(sound)
        content[position] ^= 0xFF
        (folder / MANIFEST_FOLDER).write("a.parquet", bytes(content))
        with suppress(UserError):  # some bytes say nothing that is read
            read_manifest(folder)


def test_manifest_of_two_schemas_names_the_part_that_differs(folder: Folder) -> None:
    write_part(folder, "a.parquet", row(0))
    other = Schema((Column("number", "<i8", ()),))
    (folder / MANIFEST_FOLDER).write("b.parquet", encode_part(other, [row(1)]))
    with pytest.raises(UserError, match=r"b\.parquet: damaged \(another schema"):
        read_manifest(folder)


@pytest.mark.parametrize(
    "wrong",
    [
        replace(row(0), name="../shard.tar"),
        replace(row(0), num_samples=0),
        replace(row(0), start_index=-1),
        replace(row(0), num_bytes=100),
        replace(row(0), sample_blocks=b"\x01\x00" * PER_SHARD),
    ],
)
def test_manifest_row_that_cannot_be_right_is_refused(folder: Folder, wrong: ShardInfo) -> None:
    write_part(folder, "a.parquet", row(1), wrong)
    with pytest.raises(UserError, match=r"a\.parquet: damaged"):
        read_manifest(folder)

"""Many writers list their shards in one folder, none of them in another's way."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from shards.errors import UserError
from shards.manifest import (
    MANIFEST_FOLDER,
    MAX_PART_ROWS,
    Manifest,
    ManifestFollower,
    ManifestWriter,
    ShardInfo,
    read_manifest,
    shard_name,
    write_manifest,
)
from shards.schema import Schema, image_column
from shards.storage import Folder
from tests.support.manifest_rows import PER_SHARD, list_shards, row, write_part
from tests.support.shard_sets import INDEX_SCHEMA

# Following what others write


def test_manifest_follower_gives_all_rows_first_then_those_of_parts_that_grew(
    folder: Folder,
) -> None:
    follower = ManifestFollower(folder)
    assert list(follower.look()) == []
    writers = [ManifestWriter(folder, INDEX_SCHEMA) for _ in range(2)]
    for index, writer in enumerate(writers):
        writer.add(row(index))
        writer.flush()
    assert sorted(row.name for row in follower.look()) == [shard_name(0), shard_name(1)]
    assert list(follower.look()) == []
    writers[1].add(row(2))
    writers[1].flush()
    assert {row.name for row in follower.look()} == {shard_name(1), shard_name(2)}
    assert list(follower.look()) == []


def test_manifest_follower_sees_every_row_that_a_part_grows_by(tmp_path: Path) -> None:
    folder = Folder.at(tmp_path)
    writer, follower = ManifestWriter(folder, INDEX_SCHEMA), ManifestFollower(folder)
    for index in range(MAX_PART_ROWS // 10):
        writer.add(row(index, sha256=hashlib.sha256(bytes([index])).hexdigest()))
        writer.flush()
        assert shard_name(index) in {row.name for row in follower.look()}


def test_manifest_follower_of_a_damaged_part_names_it(folder: Folder) -> None:
    write_part(folder, "bad.parquet", row(0))
    (folder / MANIFEST_FOLDER).write("bad.parquet", b"no Parquet")
    with pytest.raises(UserError, match=r"bad\.parquet"):
        list(ManifestFollower(folder).look())


# One writer


def test_manifest_row_is_listed_once_flushed(folder: Folder) -> None:
    writer = ManifestWriter(folder, INDEX_SCHEMA)
    writer.flush()
    assert read_manifest(folder) is None
    writer.add(row(1))
    assert read_manifest(folder) is None
    writer.flush()
    assert list_shards(folder) == [row(1)]
    writer.add(row(0))
    writer.flush()
    assert list_shards(folder) == [row(0), row(1)]


def test_manifest_keeps_sizes_of_samples(folder: Folder) -> None:
    schema = Schema((image_column(8, "png"),))
    shard = ShardInfo("shard-000000.tar", 0, 2, 4096, "b" * 64, b"\x02\x00\x03\x00", 2.5)
    writer = ManifestWriter(folder, schema)
    writer.add(shard)
    writer.flush()
    assert read_manifest(folder) == Manifest(schema, (shard,))


def test_manifest_writer_of_many_rows_begins_a_new_part(tmp_path: Path) -> None:
    folder = Folder.at(tmp_path)
    writer = ManifestWriter(folder, INDEX_SCHEMA)
    num_rows = 2 * MAX_PART_ROWS + 300
    for index in range(num_rows):
        writer.add(row(index))
        if index % 500 == 499:
            writer.flush()
    writer.flush()
    parts = folder / MANIFEST_FOLDER
    rows = [pq.read_metadata(parts.path / name).num_rows for name in sorted(parts.list_files())]
    assert rows == [MAX_PART_ROWS, MAX_PART_ROWS, 300]
    assert list_shards(folder) == [row(index) for index in range(num_rows)]


def test_manifest_full_parts_are_not_written_again(tmp_path: Path) -> None:
    folder = Folder.at(tmp_path)
    writer = ManifestWriter(folder, INDEX_SCHEMA)
    for index in range(MAX_PART_ROWS):
        writer.add(row(index))
    writer.flush()
    (full,) = (folder / MANIFEST_FOLDER).path.iterdir()
    before = full.stat().st_ino, full.stat().st_mtime_ns
    writer.add(row(MAX_PART_ROWS))
    writer.flush()
    assert (full.stat().st_ino, full.stat().st_mtime_ns) == before


# Several writers


def test_manifest_of_writers_in_turns_is_the_union(folder: Folder) -> None:
    writers = [ManifestWriter(folder, INDEX_SCHEMA) for _ in range(3)]
    for index in range(9):
        writers[index % 3].add(row(index))
        writers[index % 3].flush()
    assert list_shards(folder) == [row(index) for index in range(9)]


@pytest.mark.slow
def test_manifest_of_threads_that_write_at_once_is_the_union(folder: Folder) -> None:
    def write(worker: int) -> None:
        writer = ManifestWriter(folder, INDEX_SCHEMA)
        for index in range(worker, 20, 4):
            writer.add(row(index))
            writer.flush()
            assert row(index) in list_shards(folder)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(write, range(4)))
    assert list_shards(folder) == [row(index) for index in range(20)]


WRITE = """
import sys
from shards.manifest import ManifestWriter, ShardInfo
from shards.schema import Column, Schema
from shards.storage import Folder
writer = ManifestWriter(Folder.at(sys.argv[1]), Schema((Column("index", "<i8", ()),)))
print("ready", flush=True)
sys.stdin.readline()
for index in range(int(sys.argv[2]), 12, 3):
    writer.add(ShardInfo(f"shard-{index:06d}.tar", index * 4, 4, 10000, "a" * 64, None, 1.0))
    writer.flush()
"""


@pytest.mark.slow
def test_manifest_of_processes_that_write_at_once_is_the_union(folder: Folder) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", WRITE, folder.url, str(worker)],
            cwd=Path(__file__).parents[2],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for worker in range(3)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        process.communicate(timeout=60)
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert [shard.start_index // PER_SHARD for shard in list_shards(folder)] == list(range(12))


@pytest.mark.parametrize("newest_part", ["a.parquet", "b.parquet", "c.parquet"])
def test_manifest_of_parts_that_list_one_shard_takes_the_newest_row(
    folder: Folder, newest_part: str
) -> None:
    newest = row(0, written_at=9.0, sha256="9" * 64)
    for number, name in enumerate(("a.parquet", "b.parquet", "c.parquet")):
        old = row(0, written_at=float(number), sha256=str(number) * 64)
        write_part(folder, name, newest if name == newest_part else old, row(number + 1))
    assert list_shards(folder) == [newest, row(1), row(2), row(3)]


def test_manifest_shard_made_again_by_the_same_writer_has_its_newest_row(folder: Folder) -> None:
    writer = ManifestWriter(folder, INDEX_SCHEMA)
    writer.add(row(0, written_at=1.0))
    writer.flush()
    writer.add(row(0, written_at=2.0, sha256="b" * 64))
    writer.flush()
    assert list_shards(folder) == [row(0, written_at=2.0, sha256="b" * 64)]


def test_manifest_written_whole_replaces_all_parts(folder: Folder) -> None:
    for name in ("a.parquet", "b.parquet"):
        write_part(folder, name, row(5))
    write_manifest(folder, Manifest(INDEX_SCHEMA, (row(0),)))
    assert list_shards(folder) == [row(0)]


def test_manifest_num_samples_counts_up_to_the_first_gap(folder: Folder) -> None:
    write_part(folder, "a.parquet", row(0), row(1), row(3))
    manifest = read_manifest(folder)
    assert manifest is not None
    assert manifest.num_samples == 2 * PER_SHARD

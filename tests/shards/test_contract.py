"""A shard is written, read back, read by others, and found out when it is damaged."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import webdataset

from shards.errors import UserError
from shards.manifest import Manifest, read_manifest, write_manifest
from shards.reader import ShardReader
from shards.schema import (
    META_BYTES,
    META_COLUMN,
    Column,
    Schema,
    encode_meta,
    image_column,
    real_schema,
)
from shards.verify import verify_shards
from shards.writer import shard_name, write_shard
from tests.tiny_shards import (
    ARCHITECTURE,
    BLOCKS,
    RESOLUTION,
    SCHEMA,
    real_arrays,
    write_real_shards,
    write_teacher_shards,
)

REMEDY = "run `make it` again"
REAL_SCHEMA = real_schema(RESOLUTION)


def open_reader(folder: Path, num_samples: int | None = None) -> ShardReader:
    return ShardReader(folder, remedy=REMEDY, num_samples=num_samples)


def verify_all(folder: Path) -> list[str]:
    reader = open_reader(folder)
    return [shard.name for shard in verify_shards(folder, reader.shards, REMEDY)]


# Round trip


def test_reader_gathers_every_column_as_written(tmp_path: Path) -> None:
    write_real_shards(tmp_path, num_samples=40, samples_per_shard=16)
    reader, arrays = open_reader(tmp_path), real_arrays(40)
    assert len(reader) == 40
    for name, array in arrays.items():
        gathered = reader.gather(name, np.arange(40))
        assert gathered.dtype == array.dtype
        np.testing.assert_array_equal(gathered, array)


def test_reader_gathers_rows_in_the_order_asked_for_with_repetitions(tmp_path: Path) -> None:
    write_real_shards(tmp_path, num_samples=40, samples_per_shard=16)
    rows = np.array([39, 0, 16, 15, 15, 31, 32])
    gathered = open_reader(tmp_path).gather("image", rows)
    np.testing.assert_array_equal(gathered, real_arrays(40)["image"][rows])


def test_reader_gathered_array_is_a_copy(tmp_path: Path) -> None:
    write_real_shards(tmp_path)
    reader = open_reader(tmp_path)
    reader.gather("image", np.arange(3))[:] = 0
    np.testing.assert_array_equal(
        reader.gather("image", np.arange(3)), real_arrays(40)["image"][:3]
    )


def test_reader_no_indices_give_an_empty_array(tmp_path: Path) -> None:
    write_real_shards(tmp_path)
    gathered = open_reader(tmp_path).gather("image", np.array([], dtype=np.int64))
    assert gathered.shape == (0, 3, RESOLUTION, RESOLUTION)


def test_reader_meta_column_is_json_of_the_sample(tmp_path: Path) -> None:
    write_real_shards(tmp_path)
    texts = open_reader(tmp_path).gather("meta", np.array([5, 20]))
    assert [json.loads(text)["index"] for text in texts] == [5, 20]


@pytest.mark.parametrize("rows", [[40], [-1], [0, 41], [-40]])
def test_reader_index_outside_the_store_raises_index_error(tmp_path: Path, rows: list[int]) -> None:
    write_real_shards(tmp_path, num_samples=40)
    with pytest.raises(IndexError, match=r"\[0, 40\)"):
        open_reader(tmp_path).gather("image", np.array(rows))


def test_reader_unknown_column_is_named_with_those_there_are(tmp_path: Path) -> None:
    write_real_shards(tmp_path)
    with pytest.raises(KeyError, match=r"'features'.*'image', 'label', 'meta'"):
        open_reader(tmp_path).gather("features", np.array([0]))


def test_teacher_shards_features_column_is_laid_out_by_block(tmp_path: Path) -> None:
    write_teacher_shards(tmp_path, num_shards=1)
    reader = open_reader(tmp_path)
    assert [(block.name, block.num_channels) for block in reader.schema.features] == BLOCKS
    assert [block.offset for block in reader.schema.features] == [0, 12, 24]
    assert reader.gather("features", np.arange(8)).shape == (8, 32)
    assert reader.gather("w", np.arange(8)).shape == (8, ARCHITECTURE.w_dim)


# Prefixes


def test_reader_prefix_reads_only_its_shards(tmp_path: Path) -> None:
    write_real_shards(tmp_path, num_samples=40, samples_per_shard=16)
    (tmp_path / shard_name(2)).unlink()
    reader = open_reader(tmp_path, num_samples=20)
    assert len(reader) == 20
    assert [shard.name for shard in reader.shards] == [shard_name(0), shard_name(1)]
    np.testing.assert_array_equal(
        reader.gather("label", np.arange(20)), real_arrays(40)["label"][:20]
    )
    with pytest.raises(IndexError):
        reader.gather("label", np.array([20]))


def test_reader_prefix_larger_than_the_store_is_refused_with_the_remedy(tmp_path: Path) -> None:
    write_real_shards(tmp_path, num_samples=40)
    with pytest.raises(UserError, match=r"40 of 41 samples; run `make it` again"):
        open_reader(tmp_path, num_samples=41)


def test_reader_digest_depends_on_content_and_prefix_only(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        write_real_shards(tmp_path / name, seed=seed)
    first = open_reader(tmp_path / "a")
    assert first.digest == open_reader(tmp_path / "b").digest
    assert first.digest != open_reader(tmp_path / "c").digest
    assert first.digest != open_reader(tmp_path / "a", num_samples=39).digest


def test_reader_manifest_with_a_gap_is_refused_with_the_remedy(tmp_path: Path) -> None:
    manifest = write_real_shards(tmp_path, num_samples=48, samples_per_shard=16)
    write_manifest(tmp_path, Manifest(manifest.schema, (manifest.shards[0], manifest.shards[2])))
    with pytest.raises(UserError, match="make it"):
        open_reader(tmp_path, num_samples=32)


# Others read it


# webdataset leaves the tars it has read to the garbage collector
@pytest.mark.filterwarnings(r"ignore:unclosed file.*shard-000000\.tar:ResourceWarning")
def test_webdataset_reads_a_shard_as_is(tmp_path: Path) -> None:
    write_real_shards(tmp_path, num_samples=10, samples_per_shard=10)
    dataset = webdataset.WebDataset([str(tmp_path / shard_name(0))], shardshuffle=False).decode()
    samples, arrays = list(dataset), real_arrays(10)
    assert [sample["__key__"] for sample in samples] == [f"{index:09d}" for index in range(10)]
    for index, sample in enumerate(samples):
        np.testing.assert_array_equal(sample["image.npy"], arrays["image"][index])
        assert sample["label.npy"] == arrays["label"][index]
        assert sample["meta.json"] == {"index": index, "label": int(arrays["label"][index])}


def test_tar_and_numpy_alone_read_a_teacher_shard(tmp_path: Path) -> None:
    write_teacher_shards(tmp_path, num_shards=1)
    expected = open_reader(tmp_path).gather("features", np.arange(8))
    with tarfile.open(tmp_path / shard_name(0)) as tar:
        for index in range(8):
            member = tar.extractfile(f"{index:09d}.features.npy")
            assert member is not None
            np.testing.assert_array_equal(np.load(io.BytesIO(member.read())), expected[index])


@pytest.mark.parametrize(("schema", "write"), [(REAL_SCHEMA, write_real_shards), (SCHEMA, None)])
def test_schema_offsets_equal_what_tarfile_reports(
    tmp_path: Path, schema: Schema, write: Callable[..., Manifest] | None
) -> None:
    if write is None:
        write_teacher_shards(tmp_path, num_shards=1)
    else:
        write(tmp_path)
    first_index = 0
    with tarfile.open(tmp_path / shard_name(0)) as tar:
        members = tar.getmembers()
    for position, member in enumerate(members):
        index, column = divmod(position, len(schema.columns))
        spec = schema.columns[column]
        assert member.name == f"{first_index + index:09d}.{spec.member_name}"
        assert member.size == spec.num_bytes
        start = index * schema.stride_bytes + schema.offset_bytes(spec.name)
        assert member.offset_data + len(spec.header) == start


def test_tar_members_carry_no_time_or_owner(tmp_path: Path) -> None:
    write_real_shards(tmp_path)
    with tarfile.open(tmp_path / shard_name(0)) as tar:
        assert {(member.mtime, member.uname, member.gname) for member in tar} == {(0, "", "")}


def test_manifest_holds_offsets_that_other_tools_can_use(tmp_path: Path) -> None:
    write_real_shards(tmp_path, num_samples=10, samples_per_shard=10)
    metadata = pq.read_schema(tmp_path / "manifest.parquet").metadata
    columns = {column["name"]: column for column in json.loads(metadata[b"columns"])}
    content = (tmp_path / shard_name(0)).read_bytes()
    start = 3 * int(metadata[b"stride_bytes"]) + columns["image"]["offset_bytes"]
    size = 3 * RESOLUTION**2
    image = np.frombuffer(content[start : start + size], np.uint8)
    np.testing.assert_array_equal(image, real_arrays(10)["image"][3].reshape(-1))


# Reproducible, and nothing partial


def test_write_shard_twice_gives_the_same_bytes_and_row(tmp_path: Path) -> None:
    first = write_shard(tmp_path / "a" / shard_name(0), REAL_SCHEMA, 0, [real_arrays(10)])
    second = write_shard(tmp_path / "b" / shard_name(0), REAL_SCHEMA, 0, [real_arrays(10)])
    assert first == second
    a, b = ((tmp_path / name / shard_name(0)).read_bytes() for name in "ab")
    assert a == b


def test_write_shard_does_not_depend_on_how_samples_are_batched(tmp_path: Path) -> None:
    arrays = real_arrays(10)

    def batches(size: int) -> Iterator[dict[str, np.ndarray]]:
        for start in range(0, 10, size):
            yield {name: array[start : start + size] for name, array in arrays.items()}

    shards = [write_shard(tmp_path / f"{n}.tar", REAL_SCHEMA, 0, batches(n)) for n in (1, 3, 10)]
    assert len({shard.sha256 for shard in shards}) == 1
    assert {shard.num_samples for shard in shards} == {10}


def list_everything(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*"))


def test_write_shard_killed_between_batches_leaves_nothing(tmp_path: Path) -> None:
    def batches() -> Iterator[dict[str, np.ndarray]]:
        yield real_arrays(4)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_shard(tmp_path / shard_name(0), REAL_SCHEMA, 0, batches())
    assert list_everything(tmp_path) == []


def test_write_shard_killed_keeps_the_shard_that_was_there(tmp_path: Path) -> None:
    path = tmp_path / shard_name(0)
    write_shard(path, REAL_SCHEMA, 0, [real_arrays(4)])
    before = path.read_bytes()

    def batches() -> Iterator[dict[str, np.ndarray]]:
        yield real_arrays(4, seed=1)
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        write_shard(path, REAL_SCHEMA, 0, batches())
    assert path.read_bytes() == before
    assert list_everything(tmp_path) == [shard_name(0)]


def drop_label(arrays: dict[str, np.ndarray]) -> None:
    del arrays["label"]


def widen_label(arrays: dict[str, np.ndarray]) -> None:
    arrays["label"] = arrays["label"][:, None]


def shrink_label_type(arrays: dict[str, np.ndarray]) -> None:
    arrays["label"] = arrays["label"].astype(np.int32)


def shorten_label(arrays: dict[str, np.ndarray]) -> None:
    arrays["label"] = arrays["label"][1:]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (drop_label, "columns"),
        (widen_label, "label"),
        (shrink_label_type, "label"),
        (shorten_label, "unequal length"),
    ],
)
def test_write_shard_batch_that_is_not_the_schemas_is_refused(
    tmp_path: Path, spoil: Callable[[dict[str, np.ndarray]], None], message: str
) -> None:
    arrays = real_arrays(4)
    spoil(arrays)
    with pytest.raises(ValueError, match=message):
        write_shard(tmp_path / shard_name(0), REAL_SCHEMA, 0, [arrays])
    assert list_everything(tmp_path) == []


# Damage


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def alter(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [truncate, Path.unlink, alter])
def test_verify_shards_damaged_shard_is_named_with_the_remedy(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    write_real_shards(tmp_path)
    reader = open_reader(tmp_path)
    damage(tmp_path / shard_name(1))
    with pytest.raises(UserError, match=r"shard-000001\.tar.*; run `make it` again"):
        list(verify_shards(tmp_path, reader.shards, REMEDY))


@pytest.mark.parametrize("damage", [truncate, Path.unlink])
def test_reader_missing_or_truncated_shard_is_named_on_opening(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    write_real_shards(tmp_path)
    damage(tmp_path / shard_name(1))
    with pytest.raises(UserError, match=r"shard-000001\.tar.*; run `make it` again"):
        open_reader(tmp_path)


def test_verify_shards_intact_store_yields_every_shard(tmp_path: Path) -> None:
    write_real_shards(tmp_path)
    assert verify_all(tmp_path) == [shard_name(index) for index in range(3)]


def test_reader_folder_without_manifest_is_refused_with_the_remedy(tmp_path: Path) -> None:
    write_real_shards(tmp_path)
    (tmp_path / "manifest.parquet").unlink()
    with pytest.raises(UserError, match="make it"):
        open_reader(tmp_path)


# Manifest


def test_manifest_round_trip_sorts_shards_by_index(tmp_path: Path) -> None:
    manifest = write_teacher_shards(tmp_path, num_shards=3)
    write_manifest(tmp_path, replace(manifest, shards=manifest.shards[::-1]))
    assert read_manifest(tmp_path) == manifest
    assert manifest.num_samples == 24


def test_read_manifest_of_an_empty_folder_is_none(tmp_path: Path) -> None:
    assert read_manifest(tmp_path) is None


@pytest.mark.parametrize("num_bytes", [0, 10, 500])
def test_read_manifest_truncated_file_is_named(tmp_path: Path, num_bytes: int) -> None:
    write_real_shards(tmp_path)
    path = tmp_path / "manifest.parquet"
    path.write_bytes(path.read_bytes()[:num_bytes])
    with pytest.raises(UserError, match=r"manifest\.parquet: damaged") as raised:
        read_manifest(tmp_path)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("version", [b"0", b"2", None])
def test_read_manifest_of_another_schema_version_is_refused(
    tmp_path: Path, version: bytes | None
) -> None:
    write_real_shards(tmp_path)
    path = tmp_path / "manifest.parquet"
    table = pq.read_table(path)
    metadata = {**table.schema.metadata, b"schema_version": version}
    if version is None:
        del metadata[b"schema_version"]
    pq.write_table(table.replace_schema_metadata(metadata), path)
    with pytest.raises(UserError, match=r"manifest\.parquet: shard schema"):
        read_manifest(tmp_path)


# Schema


def test_schema_columns_out_of_order_are_refused() -> None:
    with pytest.raises(ValueError, match="sorted"):
        Schema((META_COLUMN, image_column(8)))
    with pytest.raises(ValueError, match="unique"):
        Schema((image_column(8), image_column(8)))


def test_encode_meta_too_long_a_row_is_refused() -> None:
    assert encode_meta([{"a": "x" * (META_BYTES - len('{"a":""}'))}]).dtype.itemsize == META_BYTES
    with pytest.raises(ValueError, match=f"longer than {META_BYTES}"):
        encode_meta([{"a": "x" * META_BYTES}])


@pytest.mark.parametrize("shape", [(), (1,), (300,), (3, 32, 32), (512,)])
def test_column_size_is_that_of_a_saved_array(tmp_path: Path, shape: tuple[int, ...]) -> None:
    np.save(tmp_path / "array.npy", np.zeros(shape, dtype=np.float16))
    assert Column("x", "<f2", shape).num_bytes == (tmp_path / "array.npy").stat().st_size

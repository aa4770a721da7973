"""A shard is an ordinary tar, the same bytes every time, and there whole or not at all."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest

from shards.manifest import ShardInfo, shard_name
from shards.schema import Schema, encode_meta, feature_schema, real_schema, synthetic_schema
from shards.storage import Folder
from shards.writer import write_shard
from tests.support.tiny_shards import (
    FEATURE_SET,
    RESOLUTION,
    open_reader,
    real_arrays,
    undated,
    write_pool,
    write_real_shards,
)


def write(folder: Path, batches: Iterable[dict[str, np.ndarray]]) -> ShardInfo:
    return write_shard(Folder.at(folder), shard_name(0), real_schema(RESOLUTION), 0, batches)


# webdataset leaves the tars it has read to the garbage collector
@pytest.mark.filterwarnings(r"ignore:unclosed file.*shard-000000\.tar:ResourceWarning")
def test_webdataset_reads_a_shard_as_is(tmp_path: Path) -> None:
    import webdataset

    write_real_shards(tmp_path, num_samples=10, samples_per_shard=10)
    dataset = webdataset.WebDataset([str(tmp_path / shard_name(0))], shardshuffle=False).decode()
    samples, arrays = list(dataset), real_arrays(10)
    assert [sample["__key__"] for sample in samples] == [f"{index:09d}" for index in range(10)]
    for index, sample in enumerate(samples):
        np.testing.assert_array_equal(sample["image.npy"], arrays["image"][index])
        assert sample["label.npy"] == arrays["label"][index]
        assert sample["meta.json"] == {"index": index, "label": int(arrays["label"][index])}


def test_tar_and_numpy_alone_read_a_shard_of_features(tmp_path: Path) -> None:
    write_pool(tmp_path, num_shards=1)
    folder = tmp_path / FEATURE_SET
    expected = open_reader(folder).gather("features", np.arange(8))
    with tarfile.open(folder / shard_name(0)) as tar:
        for index in range(8):
            member = tar.extractfile(f"{index:09d}.features.npy")
            assert member is not None
            np.testing.assert_array_equal(np.load(io.BytesIO(member.read())), expected[index])


def test_tar_members_carry_no_time_or_owner(tmp_path: Path) -> None:
    write_real_shards(tmp_path)
    with tarfile.open(tmp_path / shard_name(0)) as tar:
        assert {(member.mtime, member.uname, member.gname) for member in tar} == {(0, "", "")}


def test_write_shard_twice_gives_the_same_bytes_and_row(tmp_path: Path) -> None:
    first, second = (write(tmp_path / name, [real_arrays(10)]) for name in "ab")
    assert undated(first) == undated(second)
    a, b = ((tmp_path / name / shard_name(0)).read_bytes() for name in "ab")
    assert a == b


def test_write_shard_does_not_depend_on_how_samples_are_batched(tmp_path: Path) -> None:
    arrays = real_arrays(10)

    def batches(size: int) -> Iterator[dict[str, np.ndarray]]:
        for start in range(0, 10, size):
            yield {name: array[start : start + size] for name, array in arrays.items()}

    shards = [write(tmp_path / str(size), batches(size)) for size in (1, 3, 10)]
    assert len({shard.sha256 for shard in shards}) == 1
    assert {shard.num_samples for shard in shards} == {10}


def list_everything(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*"))


def test_write_shard_killed_between_batches_leaves_nothing(tmp_path: Path) -> None:
    def batches() -> Iterator[dict[str, np.ndarray]]:
        yield real_arrays(4)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, batches())
    assert list_everything(tmp_path) == []


def test_write_shard_killed_keeps_the_shard_that_was_there(tmp_path: Path) -> None:
    path = tmp_path / shard_name(0)
    write(tmp_path, [real_arrays(4)])
    before = path.read_bytes()

    def batches() -> Iterator[dict[str, np.ndarray]]:
        yield real_arrays(4, seed=1)
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        write(tmp_path, batches())
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
        write(tmp_path, [arrays])
    assert list_everything(tmp_path) == []


@pytest.mark.parametrize("start_index", [0, 987_654_320])
@pytest.mark.parametrize(
    "schema",
    [real_schema(8), synthetic_schema(8, 5), feature_schema([("a", 3), ("b", 700)], "float32")],
    ids=["real", "images", "features"],
)
def test_write_shard_bytes_are_those_of_webdatasets_own_writer(
    tmp_path: Path, schema: Schema, start_index: int
) -> None:
    import webdataset

    generator = np.random.default_rng(0)
    batch = {
        column.name: (
            encode_meta({"index": row} for row in range(23))
            if column.name == "meta"
            else generator.integers(0, 99, (23, *column.shape)).astype(column.dtype)
        )
        for column in schema.columns
    }
    write_shard(Folder.at(tmp_path), "ours.tar", schema, start_index, [batch])
    theirs = tmp_path / "theirs.tar"
    with (
        theirs.open("wb") as file,
        webdataset.TarWriter(file, encoder=False, mtime=0, user="", group="") as tar,
    ):
        for row in range(23):
            members = {
                column.member_name: column.header + batch[column.name][row].tobytes()
                for column in schema.columns
            }
            tar.write({"__key__": f"{start_index + row:09d}", **members})
    assert (tmp_path / "ours.tar").read_bytes() == theirs.read_bytes()

"""Samples are read back as written, in any order, from a prefix of what there is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from shards.errors import UserError
from shards.manifest import MANIFEST_FOLDER, Manifest, shard_name, write_manifest
from shards.storage import Folder
from tests.support.tiny_shards import (
    ARCHITECTURE,
    BLOCKS,
    RESOLUTION,
    open_pool,
    open_reader,
    real_arrays,
    write_pool,
    write_real_shards,
)


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


def test_reader_that_lets_go_of_shards_unmaps_and_reads_them_again(tmp_path: Path) -> None:
    write_real_shards(tmp_path, num_samples=40, samples_per_shard=16)
    reader = open_reader(tmp_path)
    rows = np.arange(40)
    first = reader.gather("image", rows)
    reader.let_go([0, 2])
    mapped = Path("/proc/self/maps").read_text(encoding="utf-8")
    assert [str(tmp_path / shard.name) in mapped for shard in reader.shards] == [False, True, False]
    np.testing.assert_array_equal(reader.gather("image", rows), first)


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


def test_pool_reader_features_are_laid_out_by_block(tmp_path: Path) -> None:
    write_pool(tmp_path, num_shards=1)
    pool = open_pool(tmp_path)
    (features,) = pool.feature_sets
    assert [(block.name, block.num_channels) for block in features.schema.features] == BLOCKS
    assert [block.offset for block in features.schema.features] == [0, 12, 24]
    assert features.gather("features", np.arange(8)).shape == (8, 32)
    assert pool.images.gather("w", np.arange(8)).shape == (8, ARCHITECTURE.w_dim)


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
    rest = (manifest.shards[0], manifest.shards[2])
    write_manifest(Folder.at(tmp_path), Manifest(manifest.schema, rest))
    with pytest.raises(UserError, match="make it"):
        open_reader(tmp_path, num_samples=32)


def test_reader_folder_without_manifest_is_refused_with_the_remedy(tmp_path: Path) -> None:
    write_real_shards(tmp_path)
    shutil.rmtree(tmp_path / MANIFEST_FOLDER)
    with pytest.raises(UserError, match="make it"):
        open_reader(tmp_path)

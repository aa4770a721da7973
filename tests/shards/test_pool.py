"""A pool: images, and features beside them, wherever they lie."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from shards.cache import Cache
from shards.errors import UserError
from shards.manifest import read_manifest, shard_name
from shards.pool import IMAGES, PoolReader, read_feature_sets
from shards.reader import ShardReader
from shards.storage import Folder
from tests.support.s3 import S3Server
from tests.support.shard_sets import (
    REMEDY,
    W_DIM,
    feature_values,
    image_arrays,
    noisy_images,
    write_features,
    write_images,
    write_indices,
    write_set,
)

SIZES = [4, 4, 3]
NUM_SAMPLES = sum(SIZES)
EARLY = {"b4": 5, "b8": 3}
LATE = {"b16": 2}
ALL = np.arange(NUM_SAMPLES)


def write_pool(pool: Folder, *feature_sets: dict[str, int], seed: int = 0) -> list[str]:
    """Images and sets of features; the sets' names."""
    write_images(pool / IMAGES, noisy_images(NUM_SAMPLES, seed), SIZES)
    return [write_features(pool, names, SIZES) for names in feature_sets]


def open_pool(
    pool: Folder, feature_sets: list[str], tmp_path: Path, num_samples: int | None = None
) -> PoolReader:
    cache = Cache(tmp_path / "cache", 10**9)
    return PoolReader(pool, feature_sets, remedy=REMEDY, num_samples=num_samples, cache=cache)


# Reading


def test_pool_gives_images_and_features_of_several_sets_row_by_row(
    folder: Folder, tmp_path: Path
) -> None:
    pool = open_pool(folder, write_pool(folder, EARLY, LATE), tmp_path)
    rows = np.array([10, 0, 4, 4, 7])
    assert len(pool) == NUM_SAMPLES
    images = pool.images.gather("image", rows)
    np.testing.assert_array_equal(images, noisy_images(NUM_SAMPLES)[rows])
    found = pool.gather_features(["b16", "b4"], rows)
    expected = [feature_values(names, NUM_SAMPLES)[rows] for names in (LATE, EARLY)]
    np.testing.assert_array_equal(found, np.concatenate([expected[0], expected[1][:, :5]], 1))
    assert found.dtype == np.float16


def test_pool_knows_the_widths_of_its_features(folder: Folder, tmp_path: Path) -> None:
    pool = open_pool(folder, write_pool(folder, EARLY, LATE), tmp_path)
    assert [pool.num_channels(name) for name in ("b4", "b8", "b16", "w")] == [5, 3, 2, W_DIM]


def test_pool_w_is_a_feature_that_lies_with_the_images(folder: Folder, tmp_path: Path) -> None:
    pool = open_pool(folder, write_pool(folder, EARLY), tmp_path)
    w = image_arrays(noisy_images(NUM_SAMPLES))["w"]
    np.testing.assert_array_equal(pool.gather_features(["w"], ALL), w)
    mixed = pool.gather_features(["b8", "w"], ALL)
    np.testing.assert_array_equal(mixed[:, 3:], w)


def test_pool_unknown_feature_is_refused_with_those_there_are(
    folder: Folder, tmp_path: Path
) -> None:
    pool = open_pool(folder, write_pool(folder, EARLY), tmp_path)
    with pytest.raises(UserError, match=r"the pool has no feature 'b16'; it has b4, b8, w$"):
        pool.num_channels("b16")


def test_pool_unknown_set_is_refused_with_the_remedy(folder: Folder, tmp_path: Path) -> None:
    write_pool(folder)
    with pytest.raises(UserError, match=r"features-none: no shards here yet; run `make it`"):
        open_pool(folder, ["features-none"], tmp_path)


def test_pool_prefix_is_as_long_as_asked_for(folder: Folder, tmp_path: Path) -> None:
    pool = open_pool(folder, write_pool(folder, EARLY), tmp_path, num_samples=6)
    assert [len(pool), *map(len, pool.readers)] == [6, 6, 6]
    assert pool.images.shard_sizes == [4, 2]
    with pytest.raises(IndexError):
        pool.gather_features(["b4"], np.array([6]))


def test_pool_with_fewer_features_than_asked_for_is_refused(folder: Folder, tmp_path: Path) -> None:
    write_pool(folder)
    name = write_features(folder, EARLY, SIZES[:2])
    with pytest.raises(UserError, match=r"has 8 of 11 samples; run `make it`"):
        open_pool(folder, [name], tmp_path, num_samples=NUM_SAMPLES)


def test_pool_lists_the_sets_of_features_that_it_has(folder: Folder) -> None:
    names = write_pool(folder, EARLY, LATE)
    (folder / "claims").write("x.json", b"{}")
    (folder / "features-empty").write("shard-000000.tar", b"")
    found = dict(read_feature_sets(folder))
    assert sorted(found) == sorted(names)
    assert [block.name for block in found[names[0]].schema.features] == ["b4", "b8"]


def test_pool_in_a_bucket_reads_as_on_a_disk(bucket_folder: Folder, tmp_path: Path) -> None:
    local = Folder.at(tmp_path / "pool")
    names = write_pool(local, EARLY, LATE)
    assert write_pool(bucket_folder, EARLY, LATE) == names
    near, far = (open_pool(folder, names, tmp_path) for folder in (local, bucket_folder))
    assert near.digest == far.digest
    for column in ("image", "meta", "w"):
        np.testing.assert_array_equal(
            near.images.gather(column, ALL[::-1]), far.images.gather(column, ALL[::-1])
        )
    features = ["b8", "b16", "w", "b4"]
    np.testing.assert_array_equal(
        near.gather_features(features, ALL), far.gather_features(features, ALL)
    )


# Only what is used


def test_pool_reads_no_set_that_was_not_asked_for(
    bucket_folder: Folder, s3: S3Server, tmp_path: Path
) -> None:
    early, late = write_pool(bucket_folder, EARLY, LATE)
    s3.requests.clear()
    pool = open_pool(bucket_folder, [early], tmp_path)
    pool.gather_features(["b4"], ALL)
    assert not any(late in line for line in s3.requests)
    assert not any("images/shard" in line for line in s3.requests)
    assert sum(f"{early}/shard" in line for line in s3.requests if "GET" in line) == len(SIZES)


def test_pool_set_that_is_not_used_may_be_damaged_or_gone(tmp_path: Path) -> None:
    folder = Folder.at(tmp_path / "pool")
    early, late = write_pool(folder, EARLY, LATE)
    shutil.rmtree(folder.path / late)
    found = open_pool(folder, [early], tmp_path).gather_features(["b4", "b8"], ALL)
    np.testing.assert_array_equal(found, feature_values(EARLY, NUM_SAMPLES))


def test_reader_column_that_is_not_used_may_be_damaged(tmp_path: Path) -> None:
    folder = Folder.at(tmp_path / "images")
    write_images(folder, noisy_images(3), [3], "png")
    path = folder.path / shard_name(0)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"\x89PNG", b"\0\0\0\0"))
    reader = ShardReader(folder, remedy=REMEDY)
    rows = np.arange(3)
    np.testing.assert_array_equal(reader.gather("w", rows), image_arrays(noisy_images(3))["w"])
    with pytest.raises(UserError, match=r"shard-000000\.tar: image: .*; run `make it` again"):
        reader.gather("image", rows)


# Digests


def test_pool_digest_is_of_what_is_used(tmp_path: Path) -> None:
    folder = Folder.at(tmp_path / "pool")
    early, late = write_pool(folder, EARLY, LATE)
    write_pool(Folder.at(tmp_path / "other"), EARLY, LATE, seed=1)

    def digest(feature_sets: list[str], num_samples: int | None = None, name: str = "pool") -> str:
        return open_pool(
            Folder.at(tmp_path / name), feature_sets, tmp_path, num_samples=num_samples
        ).digest

    different = [
        digest([]),
        digest([early]),
        digest([late]),
        digest([early, late]),
        digest([early], num_samples=10),
        digest([early], name="other"),
    ]
    assert len(set(different)) == len(different)
    assert digest([early]) == digest([early], num_samples=NUM_SAMPLES)


def test_pool_digest_stays_when_other_features_or_samples_are_rendered_later(
    tmp_path: Path,
) -> None:
    folder = Folder.at(tmp_path / "pool")
    (early,) = write_pool(folder, EARLY)
    before = open_pool(folder, [early], tmp_path, num_samples=8).digest
    write_features(folder, LATE, SIZES)
    assert open_pool(folder, [early], tmp_path, num_samples=8).digest == before
    longer = [*SIZES[:2], 4, 4]
    more = np.concatenate([noisy_images(NUM_SAMPLES)[:8], noisy_images(8, seed=1)])
    write_images(folder / IMAGES, more, longer)
    assert open_pool(folder, [early], tmp_path, num_samples=8).digest == before


# A reader notices


def test_reader_goes_on_when_nothing_or_only_other_things_changed(
    folder: Folder, tmp_path: Path
) -> None:
    (early,) = write_pool(folder, EARLY)
    pool = open_pool(folder, [early], tmp_path)
    prefix = open_pool(folder, [early], tmp_path, num_samples=6)
    pool.check_unchanged()
    write_features(folder, LATE, SIZES)
    for reader in (pool, prefix):
        reader.check_unchanged()


def test_reader_goes_on_when_the_pool_was_extended(folder: Folder, tmp_path: Path) -> None:
    write_indices(folder / IMAGES, [4, 4])
    pools = [open_pool(folder, [], tmp_path, num_samples=n) for n in (None, 6)]
    write_indices(folder / IMAGES, [4, 4, 4, 4])
    for pool in pools:
        pool.check_unchanged()
        assert len(pool) <= 8


def test_reader_goes_on_when_a_shard_was_made_again_to_the_same_bytes(
    folder: Folder, tmp_path: Path
) -> None:
    write_indices(folder / IMAGES, [4, 4])
    pool = open_pool(folder, [], tmp_path)
    write_indices(folder / IMAGES, [4, 4])
    pool.check_unchanged()


@pytest.mark.parametrize("what", [IMAGES, "features"])
def test_reader_notices_a_shard_whose_content_changed(
    folder: Folder, tmp_path: Path, what: str
) -> None:
    (early,) = write_pool(folder, EARLY)
    pool = open_pool(folder, [early], tmp_path)
    if what == IMAGES:
        write_images(folder / IMAGES, noisy_images(NUM_SAMPLES, seed=1), SIZES)
    else:
        manifest = read_manifest(folder / early)
        assert manifest is not None
        values = feature_values(EARLY, NUM_SAMPLES)
        values[-1, -1] += 1
        write_set(folder / early, manifest.schema, {"features": values}, SIZES)
    with pytest.raises(UserError, match=rf"{what}.*: the shards have changed since this began"):
        pool.check_unchanged()


def test_reader_does_not_mind_a_change_behind_its_prefix(folder: Folder, tmp_path: Path) -> None:
    write_images(folder / IMAGES, noisy_images(NUM_SAMPLES), SIZES)
    pool = open_pool(folder, [], tmp_path, num_samples=8)
    images = noisy_images(NUM_SAMPLES)
    images[8:] ^= 1
    write_images(folder / IMAGES, images, SIZES)
    pool.check_unchanged()


def test_reader_notices_shards_that_are_no_longer_listed(folder: Folder, tmp_path: Path) -> None:
    write_indices(folder / IMAGES, [4, 4])
    pool = open_pool(folder, [], tmp_path)
    write_indices(folder / IMAGES, [4])
    with pytest.raises(UserError, match="the shards have changed"):
        pool.check_unchanged()
    (folder / IMAGES / "manifest").remove_all()
    with pytest.raises(UserError, match="the shards have changed"):
        pool.check_unchanged()

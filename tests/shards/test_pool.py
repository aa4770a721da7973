"""A pool: images, and features beside them, wherever they lie and however they are encoded."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import webdataset
from PIL import Image

from shards.cache import Cache
from shards.errors import UserError
from shards.manifest import read_manifest, shard_name
from shards.pool import IMAGES, PoolReader, read_feature_sets
from shards.reader import ShardReader
from shards.schema import Codec, synthetic_schema
from shards.storage import Folder
from shards.verify import inspect_shards
from shards.writer import write_shard
from tests.s3 import S3Server
from tests.shard_sets import (
    REMEDY,
    RESOLUTION,
    W_DIM,
    encoded_in_the_middle_schema,
    feature_values,
    image_arrays,
    noisy_images,
    smooth_images,
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

LOSSLESS: list[tuple[Codec, int | None]] = [("npy", None), ("png", None), ("webp", 100)]
LOSSY: list[tuple[Codec, int | None]] = [("webp", 90), ("jpg", 90), ("jpg", 95)]


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


# Codecs


@pytest.mark.parametrize(("codec", "quality"), LOSSLESS)
def test_lossless_codec_gives_back_the_very_pixels(
    folder: Folder, tmp_path: Path, codec: Codec, quality: int | None
) -> None:
    images = noisy_images(NUM_SAMPLES)
    write_images(folder / IMAGES, images, SIZES, codec, quality)
    pool = open_pool(folder, [], tmp_path)
    rows = np.array([10, 3, 3, 0, 8])
    np.testing.assert_array_equal(pool.images.gather("image", rows), images[rows])
    np.testing.assert_array_equal(pool.images.gather("image", ALL), images)


@pytest.mark.parametrize(("codec", "quality"), LOSSY)
def test_lossy_codec_gives_back_nearly_the_pixels(
    tmp_path: Path, codec: Codec, quality: int
) -> None:
    folder = Folder.at(tmp_path)
    images = smooth_images(NUM_SAMPLES)
    write_images(folder, images, SIZES, codec, quality)
    found = ShardReader(folder, remedy=REMEDY).gather("image", ALL)
    error = np.abs(found.astype(int) - images)
    assert 0 < error.mean() < 3
    assert error.max() < 30


def test_lossy_codec_of_less_quality_takes_fewer_bytes(tmp_path: Path) -> None:
    for codec in ("webp", "jpg"):
        sizes = []
        for quality in (95, 20):
            folder = Folder.at(tmp_path / codec / str(quality))
            manifest = write_images(folder, noisy_images(NUM_SAMPLES), SIZES, codec, quality)
            blocks = b"".join(shard.sample_blocks or b"" for shard in manifest.shards)
            sizes.append(np.frombuffer(blocks, "<u2").sum())
        assert sizes[0] > sizes[1]


@pytest.mark.parametrize(("codec", "quality"), [*LOSSLESS, *LOSSY])
def test_columns_around_an_encoded_one_are_found_in_samples_of_different_size(
    tmp_path: Path, codec: Codec, quality: int | None
) -> None:
    folder = Folder.at(tmp_path)
    schema = encoded_in_the_middle_schema(codec, quality)
    arrays = {
        "aaa": np.random.default_rng(0).standard_normal((NUM_SAMPLES, 3)).astype(np.float32),
        "image": noisy_images(NUM_SAMPLES),
        "zzz": ALL * 10**12,
    }
    manifest = write_set(folder, schema, arrays, SIZES)
    blocks = [np.frombuffer(shard.sample_blocks or b"", "<u2") for shard in manifest.shards]
    assert (len(set(np.concatenate(blocks))) > 1) == (codec != "npy")
    reader = ShardReader(folder, remedy=REMEDY)
    rows = np.array([9, 1, 1, 6, 0])
    for column in ("aaa", "zzz"):
        np.testing.assert_array_equal(reader.gather(column, rows), arrays[column][rows])
    assert all(finding.problem is None for finding in inspect_shards(folder, manifest))


def read_with_tarfile(path: Path) -> list[tuple[str, bytes]]:
    with tarfile.open(path) as tar:
        return [(member.name, tar.extractfile(member).read()) for member in tar]  # type: ignore[union-attr]


@pytest.mark.parametrize(("codec", "quality"), [*LOSSLESS, *LOSSY])
def test_tar_of_any_codec_is_ordinary_and_its_keys_are_contiguous(
    tmp_path: Path, codec: Codec, quality: int | None
) -> None:
    folder = Folder.at(tmp_path)
    write_images(folder, noisy_images(NUM_SAMPLES), SIZES, codec, quality)
    members = [
        member
        for shard_index in range(len(SIZES))
        for member in read_with_tarfile(tmp_path / shard_name(shard_index))
    ]
    assert [name for name, _ in members] == [
        f"{index:09d}.{member}"
        for index in range(NUM_SAMPLES)
        for member in (f"image.{codec}", "meta.json", "w.npy")
    ]
    gathered = ShardReader(folder, remedy=REMEDY).gather("image", ALL)
    for index, (_, content) in enumerate(members[::3]):
        if codec == "npy":
            np.testing.assert_array_equal(np.load(io.BytesIO(content)), gathered[index])
        else:
            pixels = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
            np.testing.assert_array_equal(pixels.transpose(2, 0, 1), gathered[index])
    assert [json.loads(content) for _, content in members[1::3]] == [
        {"index": index} for index in range(NUM_SAMPLES)
    ]


# webdataset leaves the tars it has read to the garbage collector
@pytest.mark.filterwarnings(r"ignore:unclosed file.*shard-000000\.tar:ResourceWarning")
@pytest.mark.parametrize(("codec", "quality"), [*LOSSLESS, *LOSSY])
def test_webdataset_reads_the_tars_of_any_codec_as_they_are(
    tmp_path: Path, codec: Codec, quality: int | None
) -> None:
    folder = Folder.at(tmp_path)
    write_images(folder, noisy_images(5), [5], codec, quality)
    reader = ShardReader(folder, remedy=REMEDY)
    dataset = webdataset.WebDataset([str(tmp_path / shard_name(0))], shardshuffle=False)
    samples = list(dataset.decode("rgb8"))
    assert [sample["__key__"] for sample in samples] == [f"{index:09d}" for index in range(5)]
    for index, sample in enumerate(samples):
        image = sample[f"image.{codec}"]
        expected = reader.gather("image", np.array([index]))[0]
        found = image if codec == "npy" else np.asarray(image).transpose(2, 0, 1)
        np.testing.assert_array_equal(found, expected)
        np.testing.assert_array_equal(sample["w.npy"], reader.gather("w", np.array([index]))[0])
        assert sample["meta.json"] == {"index": index}


@pytest.mark.parametrize(("codec", "quality"), [*LOSSLESS, *LOSSY])
def test_tar_bytes_depend_on_the_samples_alone(
    tmp_path: Path, s3: S3Server, codec: Codec, quality: int | None
) -> None:
    schema = synthetic_schema(RESOLUTION, W_DIM, codec, quality)
    arrays = image_arrays(noisy_images(6))
    near, far = Folder.at(tmp_path / "near"), Folder.at("s3://bucket/far")
    whole = write_shard(near, "a.tar", schema, 6, [arrays])
    parts = [{name: array[i : i + 2] for name, array in arrays.items()} for i in (0, 2, 4)]
    again = write_shard(far, "b.tar", schema, 6, parts)
    assert near.read("a.tar") == far.read("b.tar")
    assert (whole.sha256, whole.num_bytes) == (again.sha256, again.num_bytes)
    assert (whole.start_index, whole.sample_blocks) == (again.start_index, again.sample_blocks)


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

"""Images in every codec: what comes back, and that the tars stay ordinary ones."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shards.cache import Cache
from shards.manifest import shard_name
from shards.pool import IMAGES, PoolReader
from shards.reader import ShardReader
from shards.schema import Codec, synthetic_schema
from shards.storage import Folder
from shards.verify import inspect_shards
from shards.writer import write_shard
from tests.support.s3 import S3Server
from tests.support.shard_sets import (
    REMEDY,
    RESOLUTION,
    W_DIM,
    encoded_in_the_middle_schema,
    image_arrays,
    noisy_images,
    smooth_images,
    write_images,
    write_set,
)

SIZES = [4, 4, 3]
NUM_SAMPLES = sum(SIZES)
ALL = np.arange(NUM_SAMPLES)

LOSSLESS: list[tuple[Codec, int | None]] = [("npy", None), ("png", None), ("webp", 100)]
LOSSY: list[tuple[Codec, int | None]] = [("webp", 90), ("jpg", 90), ("jpg", 95)]


@pytest.mark.parametrize(("codec", "quality"), LOSSLESS)
def test_lossless_codec_gives_back_the_very_pixels(
    folder: Folder, tmp_path: Path, codec: Codec, quality: int | None
) -> None:
    images = noisy_images(NUM_SAMPLES)
    write_images(folder / IMAGES, images, SIZES, codec, quality)
    cache = Cache(tmp_path / "cache", 10**9)
    pool = PoolReader(folder, [], remedy=REMEDY, cache=cache)
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
    import webdataset

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

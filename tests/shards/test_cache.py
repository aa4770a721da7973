"""Local copies of remote shards: brought once, checked, and bounded."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from shards.cache import Cache
from shards.errors import UserError
from shards.manifest import Manifest, ShardInfo, shard_name
from shards.reader import ShardReader
from shards.storage import Folder, StorageError
from tests.support.caches import SIZES, list_copies, room_for, roomy
from tests.support.s3 import S3Server
from tests.support.shard_sets import REMEDY, write_indices


def fetch_all(cache: Cache, source: Folder, shards: Iterable[ShardInfo]) -> list[Path]:
    paths = []
    for shard in shards:
        paths.append(cache.fetch(source, shard))
        time.sleep(0.02)  # file times are coarse
    return paths


# Read-through


def test_cache_brings_a_shard_once(
    bucket_folder: Folder, s3: S3Server, manifest: Manifest, tmp_path: Path
) -> None:
    cache = roomy(tmp_path)
    first, again = (cache.fetch(bucket_folder, manifest.shards[0]) for _ in range(2))
    assert first == again
    assert first.read_bytes() == bucket_folder.read(shard_name(0))
    assert roomy(tmp_path).fetch(bucket_folder, manifest.shards[0]) == first
    assert s3.downloads() == [shard_name(0)] * 2  # the copy's, and that of `read` above


def test_cache_same_content_elsewhere_is_not_brought_again(
    bucket_folder: Folder, s3: S3Server, manifest: Manifest, tmp_path: Path
) -> None:
    cache, other = roomy(tmp_path), Folder(bucket_folder.url + "-moved")
    twin = write_indices(other, SIZES)
    cache.fetch(bucket_folder, manifest.shards[1])
    cache.fetch(other, twin.shards[1])
    assert len(s3.downloads()) == 1


def test_reader_of_a_bucket_brings_only_the_shards_it_reads(
    bucket_folder: Folder, s3: S3Server, manifest: Manifest, tmp_path: Path
) -> None:
    reader = ShardReader(bucket_folder, remedy=REMEDY, cache=roomy(tmp_path))
    assert s3.downloads() == []
    np.testing.assert_array_equal(reader.gather("index", np.array([8, 0, 7])), [8, 0, 7])
    assert sorted(s3.downloads()) == [shard_name(0), shard_name(2)]


def test_reader_of_a_bucket_without_a_cache_is_refused(
    bucket_folder: Folder, manifest: Manifest
) -> None:
    with pytest.raises(ValueError, match="needs a cache"):
        ShardReader(bucket_folder, remedy=REMEDY)


def test_reader_prefetch_brings_shards_before_they_are_read(
    bucket_folder: Folder, s3: S3Server, manifest: Manifest, tmp_path: Path
) -> None:
    reader = ShardReader(bucket_folder, remedy=REMEDY, cache=roomy(tmp_path))
    reader.prefetch([0, 2])
    deadline = time.monotonic() + 60
    while len(list(tmp_path.rglob("*.tar"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    brought = s3.downloads()
    reader.gather("index", np.array([0, 8]))
    assert s3.downloads() == brought
    assert sorted(brought) == [shard_name(0), shard_name(2)]


# Checked content


def test_cache_corrupt_object_is_refused_and_not_kept(
    bucket_folder: Folder, manifest: Manifest, tmp_path: Path
) -> None:
    cache, shard = roomy(tmp_path), manifest.shards[1]
    sound = bucket_folder.read(shard.name)
    bucket_folder.write(shard.name, sound[:-600] + b"x" + sound[-599:])
    for _ in range(2):
        with pytest.raises(UserError, match=r"s3://bucket/store/shard-000001\.tar: content"):
            cache.fetch(bucket_folder, shard)
        assert list_copies(cache) == []
    bucket_folder.write(shard.name, sound)
    assert cache.fetch(bucket_folder, shard).read_bytes() == sound


def test_cache_missing_object_is_named_and_leaves_nothing(
    bucket_folder: Folder, manifest: Manifest, tmp_path: Path
) -> None:
    cache = roomy(tmp_path)
    bucket_folder.remove(shard_name(1))
    with pytest.raises(UserError, match=r"s3://bucket/store/shard-000001\.tar: shard is missing"):
        cache.fetch(bucket_folder, manifest.shards[1])
    assert list_copies(cache) == []


def test_cache_download_cut_on_the_way_ends_whole(
    bucket_folder: Folder, s3: S3Server, manifest: Manifest, tmp_path: Path
) -> None:
    cache, shard = roomy(tmp_path), manifest.shards[0]
    s3.cut_next_download(shard.name, after=1000)
    copy = cache.fetch(bucket_folder, shard)
    assert copy.read_bytes() == bucket_folder.read(shard.name)
    assert list_copies(cache) == [copy]


@pytest.mark.slow
def test_cache_download_that_never_succeeds_is_an_error_and_leaves_nothing(
    bucket_folder: Folder, s3: S3Server, manifest: Manifest, tmp_path: Path
) -> None:
    cache = roomy(tmp_path)
    with s3.refusing("GET /bucket/store/shard"), pytest.raises(StorageError, match="shard-000000"):
        cache.fetch(bucket_folder, manifest.shards[0])
    assert list_copies(cache) == []


# Bounded size


def test_cache_makes_room_by_dropping_the_least_recently_used(
    bucket_folder: Folder, manifest: Manifest, tmp_path: Path
) -> None:
    cache = room_for(tmp_path, 2.5, manifest)
    first, second, third = manifest.shards
    paths = fetch_all(cache, bucket_folder, [first, second, first, third])
    assert [path.exists() for path in paths] == [True, False, True, True]
    assert sum(path.stat().st_size for path in list_copies(cache)) <= cache.max_bytes


@pytest.mark.parametrize("num_shards", [0.0, 0.5, 1.0, 2.0])
def test_cache_smaller_than_what_is_read_still_serves_it_all(
    bucket_folder: Folder, manifest: Manifest, tmp_path: Path, num_shards: float
) -> None:
    cache = room_for(tmp_path, num_shards, manifest)
    reader = ShardReader(bucket_folder, remedy=REMEDY, cache=cache)
    for rows in ([0, 4, 8], [7, 1, 3], range(9)):
        np.testing.assert_array_equal(reader.gather("index", np.array(rows)), rows)
    largest = max(shard.num_bytes for shard in manifest.shards)
    held = sum(path.stat().st_size for path in list_copies(cache))
    assert held <= max(cache.max_bytes, largest)


def test_reader_keeps_reading_a_shard_that_the_cache_dropped(
    bucket_folder: Folder, s3: S3Server, manifest: Manifest, tmp_path: Path
) -> None:
    cache = room_for(tmp_path, 1, manifest)
    reader = ShardReader(bucket_folder, remedy=REMEDY, cache=cache)
    reader.gather("index", np.array([0]))
    fetch_all(cache, bucket_folder, manifest.shards[1:])
    s3.requests.clear()
    np.testing.assert_array_equal(reader.gather("index", np.array([2, 1, 0])), [2, 1, 0])
    assert s3.downloads() == []

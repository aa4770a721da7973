"""One folder of local copies, and processes and threads that use it at once."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from shards.cache import Cache
from shards.manifest import Manifest, ShardInfo, shard_name
from shards.reader import ShardReader
from shards.storage import Folder
from tests.support.caches import SIZES, list_copies, room_for, roomy
from tests.support.s3 import S3Server
from tests.support.shard_sets import REMEDY
from tests.support.workspace import ROOT


@dataclass(frozen=True)
class CrowdedCache(Cache):
    """Another process drops a copy as soon as it is there, a few times."""

    drops: list[None]

    def fetch(self, source: Folder, shard: ShardInfo) -> Path:
        path = super().fetch(source, shard)
        if self.drops:
            self.drops.pop()
            path.unlink()
        return path


def test_reader_brings_a_shard_again_that_was_dropped_before_it_was_mapped(
    bucket_folder: Folder, manifest: Manifest, tmp_path: Path
) -> None:
    cache = CrowdedCache(tmp_path / "cache", 10**9, [None])
    reader = ShardReader(bucket_folder, remedy=REMEDY, cache=cache)
    np.testing.assert_array_equal(reader.gather("index", np.array([1])), [1])


@pytest.mark.slow
def test_reader_threads_that_drop_one_anothers_shards_all_read_them(
    bucket_folder: Folder, manifest: Manifest, tmp_path: Path
) -> None:
    cache = room_for(tmp_path, 1, manifest)

    def read(row: int) -> int:
        reader = ShardReader(bucket_folder, remedy=REMEDY, cache=cache)
        return int(reader.gather("index", np.array([row]))[0])

    rows = list(range(9)) * 4
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(read, rows)) == rows


def test_cache_stays_within_its_bound_when_shards_arrive_together(
    bucket_folder: Folder, s3: S3Server, manifest: Manifest, tmp_path: Path
) -> None:
    cache = room_for(tmp_path, 1, manifest)
    with ThreadPoolExecutor(3) as threads:
        with s3.holding("GET /bucket/store/shard"):
            arriving = [threads.submit(cache.fetch, bucket_folder, s) for s in manifest.shards]
            deadline = time.monotonic() + 20
            while len(s3.downloads()) < len(SIZES) and time.monotonic() < deadline:
                time.sleep(0.01)
        for future in arriving:
            future.result()
    held = sum(path.stat().st_size for path in list_copies(cache))
    assert held <= cache.max_bytes


def test_cache_removes_what_killed_processes_left_half_way(
    bucket_folder: Folder, manifest: Manifest, tmp_path: Path
) -> None:
    cache = roomy(tmp_path)
    copy = cache.fetch(bucket_folder, manifest.shards[0])
    left = cache.folder / f".{copy.name}.0123456789abcdef.tmp"
    left.write_bytes(b"half")
    a_day_ago = time.time() - 86400
    os.utime(left, (a_day_ago, a_day_ago))
    cache.fetch(bucket_folder, manifest.shards[1])
    assert not left.exists()


FETCH = """
import sys
from shards.cache import Cache
from shards.manifest import read_manifest
from shards.storage import Folder
from pathlib import Path
source, cache = Folder.at(sys.argv[1]), Cache(Path(sys.argv[2]), 10**9)
shard = read_manifest(source).shards[0]
print("ready", flush=True)
print(cache.fetch(source, shard), flush=True)
"""


def start_fetching(source: Folder, cache: Cache) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", FETCH, source.url, str(cache.folder)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_cache_two_processes_bring_a_shard_once(
    bucket_folder: Folder, s3: S3Server, manifest: Manifest, tmp_path: Path
) -> None:
    cache = roomy(tmp_path)
    with s3.holding("GET /bucket/store/shard") as reached:
        processes = [start_fetching(bucket_folder, cache) for _ in range(2)]
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        assert reached.wait(30)
        time.sleep(0.2)  # the second comes to wait for the first
    paths = {process.communicate(timeout=30)[0].strip() for process in processes}
    assert [process.returncode for process in processes] == [0, 0]
    assert paths == {str(path) for path in list_copies(cache)}
    assert len(paths) == 1
    assert s3.downloads() == [shard_name(0)]


@pytest.mark.slow
def test_cache_process_killed_while_it_fetches_holds_up_no_other(
    bucket_folder: Folder, s3: S3Server, manifest: Manifest, tmp_path: Path
) -> None:
    cache = roomy(tmp_path)
    with s3.holding("GET /bucket/store/shard") as reached:
        process = start_fetching(bucket_folder, cache)
        assert reached.wait(30)
        process.kill()
        process.communicate()
    copy = cache.fetch(bucket_folder, manifest.shards[0])
    assert copy.read_bytes() == bucket_folder.read(shard_name(0))


def test_cache_threads_bring_a_shard_once(
    bucket_folder: Folder, s3: S3Server, manifest: Manifest, tmp_path: Path
) -> None:
    cache, start = roomy(tmp_path), threading.Barrier(4)

    def fetch(_: int) -> Path:
        start.wait()
        return cache.fetch(bucket_folder, manifest.shards[0])

    with ThreadPoolExecutor(4) as threads:
        assert len(set(threads.map(fetch, range(4)))) == 1
    assert s3.downloads() == [shard_name(0)]

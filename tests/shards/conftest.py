"""Folders of pools, as the tests of claims, of work and of local copies want them."""

from __future__ import annotations

from pathlib import Path

import pytest

from shards.manifest import Manifest
from shards.storage import Folder
from tests.support.caches import SIZES
from tests.support.s3 import S3Server
from tests.support.shard_sets import write_indices


@pytest.fixture
def pool(folder: Folder) -> Folder:
    """A pool's folder that does not exist yet, on a disk or in a bucket."""
    return folder


@pytest.fixture
def local_pool(tmp_path: Path) -> Folder:
    return Folder.at(tmp_path / "pool")


@pytest.fixture
def manifest(bucket_folder: Folder, s3: S3Server) -> Manifest:
    """Three shards of equal size in the bucket."""
    written = write_indices(bucket_folder, SIZES)
    s3.requests.clear()
    return written

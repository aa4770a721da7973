"""Folders of pools, as the tests of claims and of work want them."""

from __future__ import annotations

from pathlib import Path

import pytest

from shards.storage import Folder


@pytest.fixture
def pool(folder: Folder) -> Folder:
    """A pool's folder that does not exist yet, on a disk or in a bucket."""
    return folder


@pytest.fixture
def local_pool(tmp_path: Path) -> Folder:
    return Folder.at(tmp_path / "pool")

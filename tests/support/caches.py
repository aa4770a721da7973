"""Local copies of the shards of one small set."""

from __future__ import annotations

from pathlib import Path

from shards.cache import Cache
from shards.manifest import Manifest

SIZES = [3, 3, 3]


def roomy(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache", 10**9)


def room_for(tmp_path: Path, num_shards: float, manifest: Manifest) -> Cache:
    return Cache(tmp_path / "cache", int(num_shards * manifest.shards[0].num_bytes))


def list_copies(cache: Cache) -> list[Path]:
    """Everything in the cache's folder but the locks, unfinished files too."""
    return [path for path in cache.folder.iterdir() if path.is_file()]

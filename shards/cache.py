"""Local copies of remote shards: read-through, bounded in size, shared by all processes of a
machine.

A copy is named by its content (SHA-256) and checked against it on arrival, so it can never be
stale. The least recently used go first; a copy that is mapped stays readable until it is closed.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from shards.atomic import atomic_path, remove_stale
from shards.errors import UserError
from shards.manifest import ShardInfo
from shards.storage import Folder


@dataclass(frozen=True)
class Cache:
    """Copies under `folder`, together at most `max_bytes` (or the largest single shard)."""

    folder: Path
    max_bytes: int

    def fetch(self, source: Folder, shard: ShardInfo) -> Path:
        """Path of a whole copy of `shard`, downloaded from `source` unless there is one.

        Raises:
            UserError: if what arrived is not what the manifest says.
            OSError: if the storage does not answer or the disk is full.
        """
        path = self.folder / f"{shard.sha256}.tar"
        if not self._touch(path):
            with self._lock(shard.sha256):
                if not self._touch(path):  # another process may have brought it meanwhile
                    self._download(source, shard, path)
        return path

    def _touch(self, path: Path) -> bool:
        """Mark a copy as used just now; whether there is one."""
        try:
            os.utime(path)
        except FileNotFoundError:
            return False
        return True

    def _download(self, source: Folder, shard: ShardInfo, path: Path) -> None:
        self._make_room(shard.num_bytes)
        with atomic_path(path) as temporary:
            try:
                source.download(shard.name, temporary)
            except FileNotFoundError:
                raise UserError(f"{source}/{shard.name}: shard is missing") from None
            with temporary.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            if digest != shard.sha256:
                raise UserError(
                    f"{source}/{shard.name}: content differs from the manifest (sha256)"
                )
        self._make_room(0, keep=path)  # others may have arrived meanwhile

    def _make_room(self, num_bytes: int, keep: Path | None = None) -> None:
        remove_stale(self.folder)
        copies = []
        for path in self.folder.glob("*.tar"):
            with suppress(FileNotFoundError):  # another process may be making room, too
                status = path.stat()
                copies.append((status.st_mtime_ns, status.st_size, path))
        excess = sum(size for _, size, _ in copies) + num_bytes - self.max_bytes
        for _, size, path in sorted(copies):
            if excess <= 0:
                return
            if path != keep:
                path.unlink(missing_ok=True)
                excess -= size

    @contextmanager
    def _lock(self, digest: str) -> Iterator[None]:
        """One download of a shard at a time; the lock goes with the process."""
        locks = self.folder / "locks"
        locks.mkdir(parents=True, exist_ok=True)
        with (locks / digest[:2]).open("w") as file:  # 256 of them: none has to be deleted
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

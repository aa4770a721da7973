"""Random access to the samples of a manifest: memory-mapped tars, gathered by computed offsets.

No tar is parsed: the manifest tells where every sample lies (`schema.py`), so column arrays are
strided views of the file. A prefix of the manifest can be opened, which is how a smaller pool is
read from a larger store. Remote shards are mapped from the cache.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

import numpy as np

from shards.cache import Cache
from shards.codecs import decode_image
from shards.errors import UserError
from shards.manifest import ShardInfo, read_manifest
from shards.schema import TAR_BLOCK_BYTES, Column, Schema
from shards.storage import Folder

MAX_OPEN_SHARDS = 1024
_TAR_SIZE = slice(124, 135)  # octal digits in a member's header
_DECODERS = 4
_MAX_FETCHES = 20


@dataclass(frozen=True)
class _Mapped:
    """An open shard and where its samples start."""

    bytes: np.memmap
    offsets: np.ndarray
    _views: dict[str, np.ndarray] = field(default_factory=dict)

    def view(self, schema: Schema, spec: Column) -> np.ndarray:
        """A column of all samples, [n, *shape], without a copy; only where they are of one size."""
        if spec.name not in self._views:
            inner = np.empty(spec.shape, dtype=spec.dtype).strides
            self._views[spec.name] = np.ndarray(
                (len(self.offsets) - 1, *spec.shape),
                dtype=spec.dtype,
                buffer=self.bytes.data,
                offset=schema.offset_bytes(spec.name),
                strides=(schema.stride_bytes, *inner),
            )
        return self._views[spec.name]


class ShardReader:
    """The first `num_samples` samples of the shards in `folder` (all of them by default).

    Args:
        folder: a path, or the URL of one.
        remedy: which command makes what is missing, for messages.
        num_samples: at most as many as there are.
        cache: where shards of a remote folder are kept; needed for such a folder only.

    Raises:
        UserError: if the manifest or a shard is missing, a shard's size is not the manifest's, or
            there are fewer samples.
    """

    def __init__(
        self,
        folder: Folder | str | Path,
        *,
        remedy: str,
        num_samples: int | None = None,
        cache: Cache | None = None,
    ) -> None:
        self.folder = folder if isinstance(folder, Folder) else Folder.at(folder)
        manifest = read_manifest(self.folder)
        if manifest is None:
            raise UserError(f"{self.folder}: no shards here yet; {remedy}")
        available = manifest.num_samples
        self.remedy = remedy
        self.schema = manifest.schema
        self.num_samples = available if num_samples is None else num_samples
        if self.num_samples > available:
            raise UserError(
                f"{self.folder}: has {available} of {self.num_samples} samples; {remedy}"
            )
        self.shards = [shard for shard in manifest.shards if shard.start_index < self.num_samples]
        sizes = self.folder.list_files()
        for shard in self.shards:
            check_size(self.folder, shard, sizes.get(shard.name), remedy)
        if not self.folder.is_local and cache is None:
            raise ValueError(f"{self.folder}: a remote folder needs a cache")
        self._cache = cache
        self._starts = np.array([shard.start_index for shard in self.shards], dtype=np.int64)
        self._open: OrderedDict[int, _Mapped] = OrderedDict()
        self._lock = Lock()
        self._decoders: ThreadPoolExecutor | None = None
        self._prefetched: tuple[int, ...] = ()
        self._fetchers: ThreadPoolExecutor | None = None

    def __len__(self) -> int:
        return self.num_samples

    @property
    def digest(self) -> str:
        """Digest of the content: the shards' sha256 and how many samples are used; 64 hex
        digits.
        """
        return content_digest(self.num_samples, self.shards)

    @property
    def shard_sizes(self) -> list[int]:
        """Samples of each shard that are used; their sum is `num_samples`."""
        ends = [*self._starts[1:].tolist(), self.num_samples]
        return [end - start for start, end in zip(self._starts.tolist(), ends, strict=True)]

    def check_unchanged(self) -> None:
        """Raise `UserError` if the manifest now says something else of these samples."""
        manifest = read_manifest(self.folder)
        shards = manifest.shards if manifest is not None else ()
        current = [shard for shard in shards if shard.start_index < self.num_samples]
        if content_digest(self.num_samples, current) != self.digest:
            raise UserError(
                f"{self.folder}: the shards have changed since this began; start again with "
                "another name=…, or bring the old ones back"
            )

    def gather(self, column: str, indices: np.ndarray) -> np.ndarray:
        """Copy `column` of the samples `indices` [n], in that order; [n, *column.shape].

        Raises:
            IndexError: for an index outside [0, num_samples).
            UserError: for an image that cannot be decoded.
        """
        indices = np.asarray(indices, dtype=np.int64)
        if len(indices) and (indices.min() < 0 or indices.max() >= self.num_samples):
            raise IndexError(f"sample indices outside [0, {self.num_samples})")
        spec = self.schema.column(column)
        result = np.empty((len(indices), *spec.shape), dtype=spec.dtype)
        shard_of = np.searchsorted(self._starts, indices, side="right") - 1
        order = np.argsort(shard_of, kind="stable")
        groups = np.flatnonzero(np.diff(shard_of[order], prepend=-1))
        for rows in np.split(order, groups[1:]) if len(order) else []:
            shard_index = int(shard_of[rows[0]])
            local = indices[rows] - self._starts[shard_index]
            if spec.is_encoded:
                self._decode(shard_index, spec, local, result, rows)
            else:
                result[rows] = self._take(shard_index, spec, local)
        return result

    def prefetch(self, indices: Iterable[int]) -> list[Future[Path]]:
        """Start bringing the remote shards of the given shard indices to the cache; a second call
        with the same ones does nothing.
        """
        wanted = tuple(indices)
        if self.folder.is_local or wanted == self._prefetched:
            return []
        self._prefetched = wanted
        self._fetchers = self._fetchers or ThreadPoolExecutor(2, "fetch")
        return [self._fetchers.submit(self._local_path, int(index)) for index in wanted]

    def _local_path(self, shard_index: int) -> Path:
        shard = self.shards[shard_index]
        if self.folder.is_local or self._cache is None:
            return self.folder.path / shard.name
        return self._cache.fetch(self.folder, shard)

    def _map(self, shard_index: int) -> _Mapped:
        with self._lock:
            if shard_index in self._open:
                self._open.move_to_end(shard_index)
                return self._open[shard_index]
        shard = self.shards[shard_index]
        mapped = _Mapped(
            self._map_file(shard_index),
            self.schema.sample_offsets(shard.num_samples, shard.sample_blocks),
        )
        with self._lock:
            self._open[shard_index] = mapped
            while len(self._open) > MAX_OPEN_SHARDS:
                self._open.popitem(last=False)
        return mapped

    def _map_file(self, shard_index: int) -> np.memmap:
        for _ in range(_MAX_FETCHES):
            try:
                return np.memmap(self._local_path(shard_index), dtype=np.uint8, mode="r")
            except FileNotFoundError:  # dropped from the cache before it could be mapped
                if self.folder.is_local:
                    raise
        raise UserError(f"{self.folder}: the cache is too small for what is read; raise cache_gb")

    def _take(self, shard_index: int, spec: Column, local: np.ndarray) -> np.ndarray:
        """Rows `local` of a fixed-size column of a shard."""
        mapped = self._map(shard_index)
        if self.schema.is_fixed:
            taken: np.ndarray = mapped.view(self.schema, spec)[local]
            return taken
        offset = self.schema.offset_bytes(spec.name)
        starts = (mapped.offsets[local] if offset >= 0 else mapped.offsets[local + 1]) + offset
        at = starts[:, None] + np.arange(spec.num_bytes - len(spec.header))
        raw: np.ndarray = np.asarray(mapped.bytes)[at]
        return raw.view(spec.dtype).reshape(-1, *spec.shape)

    def _decode(
        self,
        shard_index: int,
        spec: Column,
        local: np.ndarray,
        result: np.ndarray,
        rows: np.ndarray,
    ) -> None:
        mapped = self._map(shard_index)
        content_at = self.schema.offset_bytes(spec.name)

        def decode(row: int, target: int) -> None:
            start = int(mapped.offsets[row]) + content_at
            header = mapped.bytes[start - TAR_BLOCK_BYTES : start]
            num_bytes = int(header[_TAR_SIZE].tobytes(), 8)
            result[target] = decode_image(mapped.bytes[start : start + num_bytes].data, spec)

        self._decoders = self._decoders or ThreadPoolExecutor(_DECODERS, "decode")
        try:
            for _ in self._decoders.map(decode, local.tolist(), rows.tolist()):
                pass
        except ValueError as error:
            shard = self.folder / self.shards[shard_index].name
            raise UserError(f"{shard}: {error}; {self.remedy}") from None


def content_digest(num_samples: int, shards: Iterable[ShardInfo]) -> str:
    """Digest of the first `num_samples` samples of `shards`; 64 hex digits."""
    text = "\n".join([str(num_samples), *(shard.sha256 for shard in shards)])
    return hashlib.sha256(text.encode()).hexdigest()


def check_size(folder: Folder, shard: ShardInfo, size: int | None, remedy: str) -> None:
    """Raise `UserError` unless `size`, None for no file, is what the manifest says of `shard`."""
    if size is None:
        raise UserError(f"{folder}/{shard.name}: shard is missing; {remedy}")
    if size != shard.num_bytes:
        raise UserError(
            f"{folder}/{shard.name}: shard has {size} bytes instead of {shard.num_bytes}; {remedy}"
        )

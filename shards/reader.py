"""Random access to the samples of a manifest: memory-mapped tars, gathered by computed offsets.

No tar is parsed: the manifest tells where every sample lies (`schema.py`), so a batch is slices
of the files, joined. A prefix of the manifest can be opened, which is how a smaller pool is
read from a larger store. Remote shards are mapped from the cache.
"""

from __future__ import annotations

import hashlib
import math
from collections import OrderedDict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from shards.cache import Cache
from shards.codecs import decode_image
from shards.errors import UserError
from shards.manifest import ShardInfo, read_manifest
from shards.open_files import allow_open_files
from shards.schema import TAR_BLOCK_BYTES, Column
from shards.storage import Folder

MAX_OPEN_SHARDS = 1024
_TAR_SIZE = slice(124, 135)  # octal digits in a member's header
_DECODERS = 4
_DECODED_TOGETHER = 8  # images per task
_MAX_FETCHES = 20


@dataclass(frozen=True)
class _Mapped:
    """An open shard and where its samples start."""

    content: memoryview
    offsets: np.ndarray


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
        allow_open_files()
        self._cache = cache
        self._starts = np.array([shard.start_index for shard in self.shards], dtype=np.int64)
        self._open: OrderedDict[int, _Mapped] = OrderedDict()
        self._lock = Lock()
        self._decoders: ThreadPoolExecutor | None = None
        self._prefetched: tuple[int, ...] = ()
        self._fetchers: ThreadPoolExecutor | None = None

    def __len__(self) -> int:
        return self.num_samples

    def __reduce__(self) -> tuple[Any, ...]:
        """A reader travels as what it opens; where it arrives, it opens that again."""
        opened = partial(
            ShardReader, remedy=self.remedy, num_samples=self.num_samples, cache=self._cache
        )
        return opened, (self.folder,)

    @property
    def digest(self) -> str:
        """Digest of the shards' sha256 and of how many samples are used; 64 hex digits."""
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

    def gather(
        self, column: str, indices: np.ndarray, start: int = 0, stop: int | None = None
    ) -> np.ndarray:
        """Copy `column` of the samples `indices` [n], in that order; [n, *column.shape]. Decoded
        images are channels-last in memory, as decoders leave them and networks like them.

        Args:
            column: its name.
            indices: which samples.
            start: of a column of vectors, the first element to copy.
            stop: likewise, the one after the last; None: to the end.

        Raises:
            IndexError: for an index outside [0, num_samples).
            UserError: for an image that cannot be decoded.
        """
        indices = np.asarray(indices, dtype=np.int64)
        if len(indices) and (indices.min() < 0 or indices.max() >= self.num_samples):
            raise IndexError(f"sample indices outside [0, {self.num_samples})")
        spec = self.schema.column(column)
        places = self._places(spec, indices)
        if spec.is_encoded:
            return self._decode(spec, places)
        shape = spec.shape
        if start or stop is not None:
            shape = (len(range(shape[0])[start:stop]),)
        item_bytes = np.dtype(spec.dtype).itemsize
        skipped, num_bytes = start * item_bytes, math.prod(shape) * item_bytes
        joined = bytearray().join(
            [content[at + skipped : at + skipped + num_bytes] for content, at, _ in places]
        )
        return np.frombuffer(joined, dtype=spec.dtype).reshape(len(indices), *shape)

    def _places(self, spec: Column, indices: np.ndarray) -> list[tuple[memoryview, int, int]]:
        """For each sample: the content of its shard, where `spec` starts in it, and which shard."""
        shard_of = np.searchsorted(self._starts, indices, side="right") - 1
        local = indices - self._starts[shard_of]
        shards = shard_of.tolist()
        mapped = {shard: self._map(shard) for shard in set(shards)}
        offset = self.schema.offset_bytes(spec.name)
        if self.schema.is_fixed:
            starts = local * self.schema.stride_bytes + offset
        else:  # what lies after an encoded column is counted from the end of the sample
            samples = zip(shards, (local + (offset < 0)).tolist(), strict=True)
            starts = np.array([mapped[s].offsets[row] for s, row in samples], np.int64) + offset
        return [
            (mapped[shard].content, at, shard)
            for shard, at in zip(shards, starts.tolist(), strict=True)
        ]

    def prefetch(self, indices: Iterable[int]) -> None:
        """Start bringing remote shards to the cache; the same ones asked again do nothing."""
        wanted = tuple(indices)
        if self.folder.is_local or wanted == self._prefetched:
            return
        self._prefetched = wanted
        self._fetchers = self._fetchers or ThreadPoolExecutor(2, "fetch")
        for index in wanted:
            self._fetchers.submit(self._local_path, int(index))

    def let_go(self, shards: Iterable[int]) -> None:
        """Unmap some shards, by their place in `shards`, which are not read again soon: what was
        read of a mapped shard counts as memory of the process.
        """
        with self._lock:
            for index in shards:
                self._open.pop(index, None)

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
            self._map_file(shard_index).data,
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

    def _decode(self, spec: Column, places: list[tuple[memoryview, int, int]]) -> np.ndarray:
        channels, height, width = spec.shape
        pixels = np.empty((len(places), height, width, channels), dtype=spec.dtype)
        result = pixels.transpose(0, 3, 1, 2)

        def decode(first: int) -> None:
            for row in range(first, min(first + _DECODED_TOGETHER, len(places))):
                content, start, shard_index = places[row]
                size = int(bytes(content[start - TAR_BLOCK_BYTES : start][_TAR_SIZE]), 8)
                try:
                    result[row] = decode_image(content[start : start + size], spec)
                except ValueError as error:
                    shard = self.folder / self.shards[shard_index].name
                    raise UserError(f"{shard}: {error}; {self.remedy}") from None

        self._decoders = self._decoders or ThreadPoolExecutor(_DECODERS, "decode")
        for _ in self._decoders.map(decode, range(0, len(places), _DECODED_TOGETHER)):
            pass
        return result


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

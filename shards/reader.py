"""Random access to the samples of a manifest: memory-mapped tars, gathered by computed offsets.

No tar is parsed: members have constant sizes (`schema.py`), so column arrays are strided views of
the file. A prefix of the manifest can be opened, which is how a smaller pool is read from a larger
store.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from shards.errors import UserError
from shards.manifest import ShardInfo, read_manifest


class ShardReader:
    """The first `num_samples` samples of the shards in `directory` (all of them by default).

    Raises:
        UserError: if the manifest or a shard is missing, a shard's size is not the manifest's, or
            the store has fewer samples; `remedy` says which command makes them.
    """

    def __init__(self, directory: Path, *, remedy: str, num_samples: int | None = None) -> None:
        manifest = read_manifest(directory)
        if manifest is None:
            raise UserError(f"{directory}: no shards here yet; {remedy}")
        available = manifest.num_samples
        self.directory = directory
        self.schema = manifest.schema
        self.num_samples = available if num_samples is None else num_samples
        if self.num_samples > available:
            raise UserError(f"{directory}: has {available} of {self.num_samples} samples; {remedy}")
        self.shards = [shard for shard in manifest.shards if shard.start_index < self.num_samples]
        for shard in self.shards:
            check_size(directory, shard, remedy)
        self._starts = np.array([shard.start_index for shard in self.shards], dtype=np.int64)
        self._maps: dict[int, np.memmap] = {}

    def __len__(self) -> int:
        return self.num_samples

    @property
    def digest(self) -> str:
        """Digest of the content: the shards' sha256 and how many samples are used; 64 hex
        digits.
        """
        text = "\n".join([str(self.num_samples), *(shard.sha256 for shard in self.shards)])
        return hashlib.sha256(text.encode()).hexdigest()

    def gather(self, column: str, indices: np.ndarray) -> np.ndarray:
        """Copy `column` of the samples `indices` [n], in that order; [n, *column.shape].

        Raises:
            IndexError: for an index outside [0, num_samples).
        """
        indices = np.asarray(indices, dtype=np.int64)
        if len(indices) and (indices.min() < 0 or indices.max() >= self.num_samples):
            raise IndexError(f"sample indices outside [0, {self.num_samples})")
        spec = self.schema.column(column)
        result = np.empty((len(indices), *spec.shape), dtype=spec.dtype)
        shard_of = np.searchsorted(self._starts, indices, side="right") - 1
        for shard_index in np.unique(shard_of):
            rows = shard_of == shard_index
            view = self._view(int(shard_index), column)
            result[rows] = view[indices[rows] - self._starts[shard_index]]
        return result

    def _view(self, shard_index: int, column: str) -> np.ndarray:
        shard = self.shards[shard_index]
        if shard_index not in self._maps:
            self._maps[shard_index] = np.memmap(
                self.directory / shard.name, dtype=np.uint8, mode="r"
            )
        spec = self.schema.column(column)
        inner = np.empty(spec.shape, dtype=spec.dtype).strides
        return np.ndarray(
            (shard.num_samples, *spec.shape),
            dtype=spec.dtype,
            buffer=self._maps[shard_index].data,
            offset=self.schema.offset_bytes(column),
            strides=(self.schema.stride_bytes, *inner),
        )


def check_size(directory: Path, shard: ShardInfo, remedy: str) -> None:
    """Raise `UserError` unless the file of `shard` is there and as large as the manifest says."""
    path = directory / shard.name
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        raise UserError(f"{path}: shard is missing; {remedy}") from None
    if size != shard.num_bytes:
        raise UserError(f"{path}: shard has {size} bytes instead of {shard.num_bytes}; {remedy}")

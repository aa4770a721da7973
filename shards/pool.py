"""A pool of synthetic samples: its images, and sets of feature shards beside them, row by row the
same samples.

A pool's folder has `images/` and any number of `features-…/`, each a set of shards with a manifest
of its own; features rendered later lie beside those that were there. Only the sets and columns that
are asked for are read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from shards.cache import Cache
from shards.errors import UserError
from shards.manifest import Manifest, read_manifest
from shards.reader import ShardReader
from shards.schema import FeatureBlock, W
from shards.storage import Folder

IMAGES = "images"
FEATURES_PREFIX = "features-"


class PoolReader:
    """The first `num_samples` samples of the pool in `folder`, with the features of `feature_sets`.

    Raises:
        UserError: as `ShardReader` does.
    """

    def __init__(
        self,
        folder: Folder | str | Path,
        feature_sets: Sequence[str],
        *,
        remedy: str,
        num_samples: int | None = None,
        cache: Cache | None = None,
    ) -> None:
        self.folder = folder if isinstance(folder, Folder) else Folder.at(folder)
        self.images, *self.feature_sets = (
            ShardReader(self.folder / name, remedy=remedy, num_samples=num_samples, cache=cache)
            for name in (IMAGES, *feature_sets)
        )
        self._blocks: dict[str, tuple[ShardReader, FeatureBlock]] = {}
        for reader in self.feature_sets:
            for block in reader.schema.features:
                self._blocks.setdefault(block.name, (reader, block))

    def __len__(self) -> int:
        return min(map(len, self.readers))

    @property
    def readers(self) -> list[ShardReader]:
        """Images first."""
        return [self.images, *self.feature_sets]

    @property
    def digest(self) -> str:
        """Digest of images and features; 64 hex digits."""
        text = "\n".join(reader.digest for reader in self.readers)
        return hashlib.sha256(text.encode()).hexdigest()

    def num_channels(self, name: str) -> int:
        """Width of a feature.

        Raises:
            UserError: if the pool has no such feature.
        """
        if name in self._blocks:
            return self._blocks[name][1].num_channels
        if name == W:
            return self.images.schema.column(W).shape[0]
        names = ", ".join([*self._blocks, *([] if W in self._blocks else [W])])
        raise UserError(f"{self.folder}: the pool has no feature {name!r}; it has {names}")

    def gather_features(self, names: Sequence[str], rows: np.ndarray) -> np.ndarray:
        """Features `names` of the samples `rows` [n], end to end, [n, Σ C] of their stored type."""
        runs: list[tuple[ShardReader, str, int, int]] = []
        for name in names:
            if name in self._blocks:
                reader, block = self._blocks[name]
                run = (reader, "features", block.offset, block.offset + block.num_channels)
            else:
                run = (self.images, W, 0, self.num_channels(name))
            if runs and runs[-1][:2] == run[:2] and runs[-1][3] == run[2]:
                run = (*run[:2], runs.pop()[2], run[3])  # neighbours are copied in one go
            runs.append(run)
        parts = [reader.gather(column, rows, start, stop) for reader, column, start, stop in runs]
        return parts[0] if len(parts) == 1 else np.concatenate(parts, 1)

    def check_unchanged(self) -> None:
        """Raise `UserError` if the shards that this reads are no longer the same."""
        for reader in self.readers:
            reader.check_unchanged()


def read_feature_sets(folder: Folder) -> Iterator[tuple[str, Manifest]]:
    """Name and manifest of every set of features in a pool's folder, by name."""
    for name in folder.list_folders():
        if name.startswith(FEATURES_PREFIX):
            manifest = read_manifest(folder / name)
            if manifest is not None:
                yield name, manifest

"""Keeps representations by content: the same backbone never sees the same data set twice.

All splits of a data set and their labels are one entry of `student/representations.py`, whose key
is of the backbone's weights, the split and the preprocessing.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
from torch import nn

from pipeline.eval.transfer.features import (
    PREPROCESSING,
    LabelledRepresentations,
    Loading,
    Progress,
    TransferFeatures,
    extract_features,
)
from pipeline.eval.transfer.images import TransferImages
from pipeline.student.representations import (
    as_array,
    as_column,
    entry_key,
    read_table,
    weights_digest,
    write_table,
)

CACHE_VERSION = 1
_SPLITS = ("train", "val", "test")


def cached_features(
    folder: Path,
    backbone: nn.Module,
    images: TransferImages,
    loading: Loading,
    progress: Progress | None = None,
) -> TransferFeatures:
    """What `extract_features` gives, from `folder` where it is there, else computed and kept there.

    Raises:
        UserError: as `extract_features`, and for images that are listed but absent.
        OSError: if `folder` cannot be written.
    """
    split_digest = images.digest
    path = folder / f"{feature_key(backbone, split_digest)}.parquet"
    features = _read(path, images, split_digest)
    if features is not None:
        if progress is not None:
            progress(images.num_images)
        return features
    features = extract_features(backbone, images, loading, progress)
    _write(path, features)
    return features


def feature_key(backbone: nn.Module, split_digest: str) -> str:
    """Name of the entry, 64 hex digits: of weights, split and preprocessing."""
    return entry_key([CACHE_VERSION, weights_digest(backbone), split_digest, PREPROCESSING])


def _write(path: Path, features: TransferFeatures) -> None:
    parts = (features.train, features.val, features.test)
    vectors = np.concatenate([part.representations for part in parts])
    labels = np.concatenate([part.labels for part in parts])
    names = [name for name, part in zip(_SPLITS, parts, strict=True) for _ in part.labels]
    table = pa.table(
        {
            "split": pa.array(names).dictionary_encode(),
            "label": as_column(labels),
            "representation": as_column(vectors),
        }
    ).replace_schema_metadata(
        {
            "dataset": features.name,
            "split_digest": features.split_digest,
            "preprocessing": PREPROCESSING,
        }
    )
    write_table(path, table)


def _read(path: Path, images: TransferImages, split_digest: str) -> TransferFeatures | None:
    """The entry at `path`; None if there is none, or none that is whole."""
    table = read_table(path)
    if table is None or len(table) != images.num_images:
        return None
    vectors = as_array(table["representation"])
    parts, start = [], 0
    for split in images.splits:
        rows = slice(start, start + len(split))
        parts.append(LabelledRepresentations(vectors[rows], split.labels))
        start = rows.stop
    return TransferFeatures(images.name, split_digest, *parts)

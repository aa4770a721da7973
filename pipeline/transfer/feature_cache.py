"""Keeps representations by content: the same backbone never sees the same data set twice.

The key is a digest of the backbone's weights, the data set's split and the preprocessing, so
nothing has to be declared out of date. One Parquet file an entry; one that is damaged, or whose
writer was killed, counts as absent.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import nn

from pipeline.transfer.features import (
    PREPROCESSING,
    LabelledRepresentations,
    Loading,
    Progress,
    TransferFeatures,
    extract_features,
)
from pipeline.transfer.images import TransferImages
from shards.atomic import atomic_path

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
    parts = [CACHE_VERSION, weights_digest(backbone), split_digest, PREPROCESSING]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def weights_digest(backbone: nn.Module) -> str:
    """SHA-256 over the backbone's modules as they print themselves and its state dict, buffers
    included, 64 hex digits; wherever the weights are, and in training or not.
    """
    digest = hashlib.sha256(repr(backbone).encode())
    for name, tensor in backbone.state_dict().items():
        array = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {array.dtype} {list(array.shape)}".encode())
        digest.update(array.flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def _write(path: Path, features: TransferFeatures) -> None:
    parts = (features.train, features.val, features.test)
    vectors = np.concatenate([part.representations for part in parts])
    labels = np.concatenate([part.labels for part in parts])
    names = [name for name, part in zip(_SPLITS, parts, strict=True) for _ in part.labels]
    table = pa.table(
        {
            "split": pa.array(names).dictionary_encode(),
            "label": _as_column(labels),
            "representation": _as_column(vectors),
        }
    ).replace_schema_metadata(
        {
            "dataset": features.name,
            "split_digest": features.split_digest,
            "preprocessing": PREPROCESSING,
        }
    )
    with atomic_path(path) as temporary:
        pq.write_table(
            table,
            temporary,
            compression="zstd",
            use_dictionary=["split"],
            write_page_checksum=True,
        )


def _read(path: Path, images: TransferImages, split_digest: str) -> TransferFeatures | None:
    """The entry at `path`; None if there is none, or none that is whole."""
    try:
        table = pq.read_table(path, page_checksum_verification=True)
    except (OSError, pa.ArrowException):
        return None
    if len(table) != images.num_images:
        return None
    vectors = _as_array(table["representation"])
    parts, start = [], 0
    for split in images.splits:
        rows = slice(start, start + len(split))
        parts.append(LabelledRepresentations(vectors[rows], split.labels))
        start = rows.stop
    return TransferFeatures(images.name, split_digest, *parts)


def _as_column(rows: np.ndarray) -> pa.Array:
    """[N] or [N, D] as N values, or N lists of D; bool is stored as bytes."""
    flat = pa.array(rows.astype(np.uint8).ravel() if rows.dtype == bool else rows.ravel())
    return flat if rows.ndim == 1 else pa.FixedSizeListArray.from_arrays(flat, rows.shape[1])


def _as_array(column: pa.ChunkedArray) -> np.ndarray:
    """The [N, D] behind a column of lists."""
    found: np.ndarray = column.combine_chunks().flatten().to_numpy()
    return found.reshape(len(column), -1)

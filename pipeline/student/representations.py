"""Representations kept by content: the same network never sees the same images twice.

The key is a digest of weights, images and preprocessing, so nothing has to be declared out of date.
One Parquet file an entry, under `runs/representations`; one that is damaged, or whose writer was
killed, counts as absent. Neighbours: `eval/` asks.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import nn

from shards.atomic import atomic_path

REPRESENTATIONS = "representations"
"""Folder of the entries, under `paths.runs`."""
_VERSION = 1


def cached_array(
    folder: Path, parts: Sequence[object], compute: Callable[[], np.ndarray]
) -> np.ndarray:
    """`compute()`, [N, D] float32, from `folder` if it is there, else kept there.

    Args:
        folder: of the entries.
        parts: what the array depends on, as JSON.
        compute: makes it.

    Raises:
        OSError: if `folder` cannot be written.
    """
    path = folder / f"{entry_key(parts)}.parquet"
    table = read_table(path)
    if table is not None and table.column_names == ["representation"]:
        return as_array(table["representation"])
    array = compute()
    write_table(path, pa.table({"representation": as_column(array)}))
    return array


def entry_key(parts: Sequence[object]) -> str:
    """Name of an entry, 64 hex digits."""
    return hashlib.sha256(json.dumps([_VERSION, *parts]).encode()).hexdigest()


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


def read_table(path: Path) -> pa.Table | None:
    """The entry at `path`; None if there is none that is whole."""
    try:
        return pq.read_table(path, page_checksum_verification=True)
    except (OSError, pa.ArrowException):
        return None


def write_table(path: Path, table: pa.Table) -> None:
    """Replace the entry at `path`."""
    with atomic_path(path) as temporary:
        pq.write_table(
            table,
            temporary,
            compression="zstd",
            use_dictionary=["split"],
            write_page_checksum=True,
        )


def as_column(rows: np.ndarray) -> pa.Array:
    """[N] or [N, D] as N values, or N lists of D; bool is stored as bytes."""
    flat = pa.array(rows.astype(np.uint8).ravel() if rows.dtype == bool else rows.ravel())
    return flat if rows.ndim == 1 else pa.FixedSizeListArray.from_arrays(flat, rows.shape[1])


def as_array(column: pa.ChunkedArray) -> np.ndarray:
    """The [N, D] behind a column of lists; to be written to, unlike Arrow's own."""
    found: np.ndarray = column.combine_chunks().flatten().to_numpy()
    return found.reshape(len(column), -1).copy()

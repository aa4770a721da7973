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
_COLUMN = "representation"


def cached_array(
    folder: Path, parts: Sequence[object], compute: Callable[[], np.ndarray]
) -> np.ndarray:
    """`compute()`, [N, D] float32, from `folder` if it is there, else kept there; `parts` are what
    it depends on, as JSON.

    Raises:
        OSError: if `folder` cannot be written.
    """
    key = hashlib.sha256(json.dumps([_VERSION, *parts]).encode()).hexdigest()
    path = folder / f"{key}.parquet"
    try:
        return _read(path)
    except (OSError, pa.ArrowException, KeyError):  # there is none, or none that is whole
        array = compute()
    rows = pa.FixedSizeListArray.from_arrays(pa.array(array.ravel()), array.shape[1])
    table = pa.table({_COLUMN: rows})
    with atomic_path(path) as temporary:
        pq.write_table(
            table, temporary, compression="zstd", use_dictionary=False, write_page_checksum=True
        )
    return array


def _read(path: Path) -> np.ndarray:
    """The array of an entry; to be written to, unlike Arrow's own."""
    table = pq.read_table(path, columns=[_COLUMN], page_checksum_verification=True)
    found: np.ndarray = table[_COLUMN].combine_chunks().flatten().to_numpy()
    return found.reshape(len(table), -1).copy()


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

"""Exact search for nearest neighbours with torch alone, block by block, for where FAISS is not
installed. Neighbour: `knn.py` chooses between the two.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

_QUERIES, _KEYS = 1024, 65_536  # of a block: at most 256 MB of similarities


def search_exactly(
    queries: np.ndarray, parts: Iterable[np.ndarray], k: int, device: torch.device
) -> tuple[np.ndarray, np.ndarray]:
    """Inner products [Q, k] float32, falling, and indices [Q, k] int64 of the `k` keys with the
    largest ones, for each of `queries` [Q, D]. The keys are all `parts` [n, D], one after the
    other, of which each is let go before the next; both float32, k at most the number of keys.

    Only a block of similarities is in memory at once, on `device`.
    """
    blocks = [slice(start, start + _QUERIES) for start in range(0, len(queries), _QUERIES)]
    best = [
        (torch.empty(len(queries[rows]), 0), torch.empty(len(queries[rows]), 0, dtype=torch.int64))
        for rows in blocks
    ]
    seen = 0
    for part in parts:
        for index, rows in enumerate(blocks):
            block = torch.from_numpy(queries[rows]).to(device)
            best[index] = _search_block(block, part, seen, k, *best[index])
        seen += len(part)
    values = np.empty((len(queries), k), np.float32)
    indices = np.empty((len(queries), k), np.int64)
    for rows, (found, places) in zip(blocks, best, strict=True):
        values[rows], indices[rows] = found.numpy(), places.numpy()
    return values, indices


def _search_block(
    queries: Tensor, keys: np.ndarray, first: int, k: int, best: Tensor, places: Tensor
) -> tuple[Tensor, Tensor]:
    """[q, k] each: `best` of the keys before the `first` are sorted again with those of each block
    of `keys`.
    """
    device = queries.device
    best, places = best.to(device), places.to(device)
    for start in range(0, len(keys), _KEYS):
        block = torch.from_numpy(keys[start : start + _KEYS]).to(device)
        found, columns = (queries @ block.T).topk(min(k, len(block)))
        best, places = torch.cat([best, found], 1), torch.cat([places, columns + first + start], 1)
        best, order = best.topk(min(k, best.shape[1]))
        places = places.gather(1, order)
    return best.cpu(), places.cpu()

"""Exact search for nearest neighbours with torch alone, block by block, for where FAISS is not
installed. Neighbour: `knn.py` chooses between the two.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

_QUERIES, _KEYS = 1024, 65_536  # of a block: at most 256 MB of similarities


def search_exactly(
    queries: np.ndarray, keys: np.ndarray, k: int, device: torch.device
) -> tuple[np.ndarray, np.ndarray]:
    """Inner products [Q, k] float32, falling, and indices [Q, k] int64 of the `k` of `keys` [N, D]
    with the largest ones, for each of `queries` [Q, D]; both float32, k at most N.

    Only a block of similarities is in memory at once, on `device`.
    """
    values = np.empty((len(queries), k), np.float32)
    indices = np.empty((len(queries), k), np.int64)
    for start in range(0, len(queries), _QUERIES):
        rows = slice(start, start + _QUERIES)
        block = torch.from_numpy(queries[rows]).to(device)
        best, places = _search_block(block, keys, k)
        values[rows], indices[rows] = best.cpu().numpy(), places.cpu().numpy()
    return values, indices


def _search_block(queries: Tensor, keys: np.ndarray, k: int) -> tuple[Tensor, Tensor]:
    """[q, k] each: the best of the keys seen so far are sorted again with those of each block."""
    best = queries.new_empty(len(queries), 0)
    places = torch.empty(len(queries), 0, dtype=torch.int64, device=queries.device)
    for start in range(0, len(keys), _KEYS):
        block = torch.from_numpy(keys[start : start + _KEYS]).to(queries.device)
        found, columns = (queries @ block.T).topk(min(k, len(block)))
        best, places = torch.cat([best, found], 1), torch.cat([places, columns + start], 1)
        best, order = best.topk(min(k, best.shape[1]))
        places = places.gather(1, order)
    return best, places

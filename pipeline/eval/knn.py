"""Weighted k-nearest-neighbour classification and neighbour search with FAISS. The only module that
imports it.
"""

from __future__ import annotations

from typing import Any

import faiss
import numpy as np

PROTOCOL = (
    "cosine, k = {k}, votes weighted by exp(cosine / {temperature:g}), FAISS exact inner product"
)


def nearest(queries: np.ndarray, keys: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Cosine similarities and indices [Q, k] of the `k` nearest of `keys` [N, D] to each of
    `queries` [Q, D], nearest first; all N where `k` is more. Among equals any may come first.

    Raises:
        ValueError: if a value is not finite: FAISS would return index -1.
    """
    index: Any = faiss.IndexFlatIP(keys.shape[1])
    if faiss.get_num_gpus() > 0:
        index = faiss.index_cpu_to_all_gpus(index)
    index.add(normalised(keys))
    similarities, indices = index.search(normalised(queries), min(k, len(keys)))
    return similarities, indices


def knn_classify(
    train: np.ndarray, labels: np.ndarray, test: np.ndarray, *, k: int, temperature: float
) -> np.ndarray:
    """Predicted labels [M] of `test` [M, D]: each neighbour votes with exp(cosine / temperature)
    (Wu et al. 2018).
    """
    similarities, indices = nearest(test, train, k)
    weights = np.exp((similarities - similarities[:, :1]) / temperature)
    votes = np.zeros((len(test), int(labels.max()) + 1))
    np.add.at(votes, (np.arange(len(test))[:, None], labels[indices]), weights)
    winners: np.ndarray = votes.argmax(1)
    return winners


def normalised(array: np.ndarray) -> np.ndarray:
    """`array` [N, D] as float32, each row divided by its norm; a row of zeros stays.

    Raises:
        ValueError: if a value is not finite.
    """
    if not np.isfinite(array).all():
        raise ValueError("a representation is not finite")
    array = np.ascontiguousarray(array, dtype=np.float32)
    norms = np.linalg.norm(array, axis=1, keepdims=True)
    unit: np.ndarray = array / np.maximum(norms, 1e-12)
    return unit

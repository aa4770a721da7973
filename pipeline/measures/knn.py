"""Weighted k-nearest-neighbour classification and neighbour search, with FAISS where it is
installed and with torch where not. The only module that imports FAISS.

Both engines are exact: they compute the same float32 cosines but for the order of summation.
**Ties** are where they may differ. Of keys that are equally similar to float32's precision any may
come first, and of those that tie for the k-th place any may be left out. A vote of k neighbours
depends on it only where keys that tie for the k-th place have different labels; equal votes go to
the lowest label. Of representations that nearly collapse ties are common: of 360 test digits and a
student trained for three epochs, one had another fifth neighbour. Numbers of both engines are
therefore compared as of one protocol, which names the engine in a remark.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from pipeline.engine.device import choose_device
from pipeline.measures.exact_search import search_exactly
from pipeline.terminal.progress import console

try:
    import faiss

    HAS_FAISS = True
except ImportError:  # not for every platform, and not needed
    HAS_FAISS = False

_PROTOCOL = (
    "cosine, k = {k}, votes weighted by exp(cosine / {temperature:g}), FAISS exact inner product"
)
PROTOCOL = _PROTOCOL if HAS_FAISS else f"{_PROTOCOL} [searched by torch, without FAISS]"
"""Of `knn_classify`. `results` compares numbers whatever the remark in brackets says."""


def nearest(
    queries: np.ndarray, keys: np.ndarray, k: int, *, on_gpus: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Cosine similarities and indices [Q, k] of the `k` nearest of `keys` [N, D] to each of
    `queries` [Q, D], nearest first; all N where `k` is more. For ties see above.

    On all GPUs that the process sees, where there are any, unless not `on_gpus`: beside a training
    they and their memory belong to its workers.

    Raises:
        ValueError: if a value is not finite: FAISS would return index -1.
    """
    queries, keys, k = normalised(queries), normalised(keys), min(k, len(keys))
    if not HAS_FAISS:
        _say_that_faiss_is_missing()
        return search_exactly(queries, keys, k, choose_device("auto" if on_gpus else "cpu"))
    index: Any = faiss.IndexFlatIP(keys.shape[1])
    if on_gpus and faiss.get_num_gpus() > 0:
        index = faiss.index_cpu_to_all_gpus(index)
    index.add(keys)
    similarities, indices = index.search(queries, k)
    return similarities, indices


@cache
def _say_that_faiss_is_missing() -> None:
    """Once in a process."""
    console.print(
        "knn       FAISS is not installed: torch searches for neighbours, as exactly",
        soft_wrap=True,
    )


def knn_classify(
    train: np.ndarray,
    labels: np.ndarray,
    test: np.ndarray,
    *,
    k: int,
    temperature: float,
    on_gpus: bool = True,
) -> np.ndarray:
    """Labels [M] of `test` [M, D], voted with exp(cosine / temperature) (Wu et al. 2018); `on_gpus`
    as `nearest` has it.
    """
    similarities, indices = nearest(test, train, k, on_gpus=on_gpus)
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

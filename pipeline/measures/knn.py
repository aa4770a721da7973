"""Weighted k-nearest-neighbour classification and neighbour search, with FAISS where it is
installed and with torch where not. The only module that imports FAISS. Keys and queries are read
in blocks, so that memory grows with neither.

Both engines are exact: they compute the same float32 cosines but for the order of summation.
**Ties** are where they may differ. Of keys that are equally similar to float32's precision any may
come first, and of those that tie for the k-th place any may be left out. A vote of k neighbours
depends on it only where keys that tie for the k-th place have different labels; equal votes go to
the lowest label. Of representations that nearly collapse ties are common: of 360 test digits and a
student trained for three epochs, one had another fifth neighbour. Numbers of both engines are
therefore compared as of one protocol, which names the engine in a remark.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

import numpy as np

from pipeline.engine.device import choose_device
from pipeline.measures.exact_search import search_exactly
from pipeline.student.vectors import Vectors
from pipeline.terminal.progress import console

try:
    import faiss

    HAS_FAISS = True
except ImportError:  # not for every platform, and not needed
    HAS_FAISS = False

KEY_NUMBERS, QUERY_NUMBERS = 2**26, 2**25
"""Numbers in a block, 256 and 128 MiB: large, as each block of keys has its own `k` nearest sorted,
and as each block of queries reads all keys.
"""
_NORMALISED = 2**20  # numbers at a time
_VOTES = 2**22
_PROTOCOL = (
    "cosine, k = {k}, votes weighted by exp(cosine / {temperature:g}), FAISS exact inner product"
)
PROTOCOL = _PROTOCOL if HAS_FAISS else f"{_PROTOCOL} [searched by torch, without FAISS]"
"""Of `knn_classify`. `results` compares numbers whatever the remark in brackets says."""


Rows = Vectors | np.ndarray
"""[N, D], on disk or in memory."""


def nearest(
    queries: Rows, keys: Rows, k: int, *, on_gpus: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Cosine similarities and indices [Q, k] of the `k` nearest of `keys` [N, D] to each of
    `queries` [Q, D], nearest first; all N where `k` is more. For ties see above.

    On all GPUs that the process sees, where there are any, unless not `on_gpus`: beside a training
    they and their memory belong to its workers.

    Raises:
        ValueError: if a value is not finite: FAISS would return index -1.
    """
    found = list(_search(_as_vectors(queries), _as_vectors(keys), k, on_gpus))
    if len(found) == 1:
        return found[0]
    shape = len(queries), min(k, len(keys))
    similarities, indices = np.empty(shape, np.float32), np.empty(shape, np.int64)
    start = 0
    for values, places in found:
        rows = slice(start, start := start + len(values))
        similarities[rows], indices[rows] = values, places
    return similarities, indices


def knn_classify(
    train: Rows,
    labels: np.ndarray,
    test: Rows,
    *,
    k: int,
    temperature: float,
    on_gpus: bool = True,
) -> np.ndarray:
    """Labels [M] of `test` [M, D], voted with exp(cosine / temperature) (Wu et al. 2018); `on_gpus`
    as `nearest` has it.
    """
    num_classes = int(labels.max()) + 1
    step = max(1, _VOTES // num_classes)
    winners = [np.empty(0, np.int64)]
    for similarities, indices in _search(_as_vectors(test), _as_vectors(train), k, on_gpus):
        weights = np.exp((similarities - similarities[:, :1]) / temperature)
        for start in range(0, len(indices), step):
            rows = slice(start, start + step)
            votes = np.zeros((len(indices[rows]), num_classes))
            row = np.arange(len(votes))[:, None]
            np.add.at(votes, (row, labels[indices[rows]]), weights[rows])
            winners.append(votes.argmax(1))
    return np.concatenate(winners)


def normalised(array: np.ndarray) -> np.ndarray:
    """`array` [N, D] as float32, each row divided by its norm; a row of zeros stays.

    Raises:
        ValueError: if a value is not finite.
    """
    return _normalise(np.array(array, np.float32, order="C"))


def _normalise(array: np.ndarray) -> np.ndarray:
    """The same of `array` [N, D] float32 itself."""
    step = max(1, _NORMALISED // array.shape[1])
    for start in range(0, len(array), step):
        rows = array[start : start + step]
        if not np.isfinite(rows).all():
            raise ValueError("a representation is not finite")
        rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return array


def _as_vectors(rows: Rows) -> Vectors:
    return rows if isinstance(rows, Vectors) else Vectors([rows])


def _search(
    queries: Vectors, keys: Vectors, k: int, on_gpus: bool
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """What `nearest` returns, a block of queries at a time; the keys are read once for each."""
    k = min(k, len(keys))
    if not HAS_FAISS:
        _say_that_faiss_is_missing()
    for block in queries.parts(_rows_of(QUERY_NUMBERS, queries)):
        parts = (_normalise(part) for part in keys.parts(_rows_of(KEY_NUMBERS, keys), reuse=True))
        unit = _normalise(block)
        if HAS_FAISS:
            yield _search_by_faiss(unit, parts, k, on_gpus)
        else:
            device = choose_device("auto" if on_gpus else "cpu")
            yield search_exactly(unit, parts, k, device)


def _search_by_faiss(
    queries: np.ndarray, parts: Iterable[np.ndarray], k: int, on_gpus: bool
) -> tuple[np.ndarray, np.ndarray]:
    heap: Any = None
    seen = 0
    first: tuple[np.ndarray, np.ndarray] | None = None
    for part in parts:
        found, places = _search_part(queries, part, min(k, len(part)), on_gpus)
        if first is None:
            first = found, places
        else:
            if heap is None:
                heap = faiss.ResultHeap(len(queries), k, keep_max=True)
                heap.add_result(*first)
            heap.add_result(found, places + seen)
        seen += len(part)
    if first is None:
        raise ValueError("there are no keys")
    if heap is None:
        return first
    heap.finalize()
    return heap.D, heap.I


def _search_part(
    queries: np.ndarray, part: np.ndarray, k: int, on_gpus: bool
) -> tuple[np.ndarray, np.ndarray]:
    if not (on_gpus and faiss.get_num_gpus() > 0):  # no index: it would be a copy
        found: Any = faiss.knn(queries, part, k, metric=faiss.METRIC_INNER_PRODUCT)
    else:
        index: Any = faiss.index_cpu_to_all_gpus(faiss.IndexFlatIP(part.shape[1]))
        index.add(part)
        found = index.search(queries, k)
    similarities, indices = found
    return similarities, indices


def _rows_of(numbers: int, vectors: Vectors) -> int:
    return max(1, numbers // vectors.num_dims)


@cache
def _say_that_faiss_is_missing() -> None:
    """Once in a process."""
    console.print(
        "knn       FAISS is not installed: torch searches for neighbours, as exactly",
        soft_wrap=True,
    )

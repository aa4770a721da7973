"""Blocked search with torch against a plain one in float64, and against FAISS."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipeline.measures.exact_search import search_exactly
from pipeline.measures.knn import nearest, normalised

CPU = torch.device("cpu")


def draw(count: int, num_dims: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, num_dims)).astype(np.float32)


def search_plainly(queries: np.ndarray, keys: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    products = torch.from_numpy(queries).double() @ torch.from_numpy(keys).double().T
    values, indices = products.topk(k)
    return values.numpy(), indices.numpy()


@pytest.mark.parametrize(
    ("num_queries", "num_keys", "k"),
    [(50, 300, 1), (50, 300, 200), (50, 300, 300), (1100, 300, 7), (3, 140_000, 20)],
    ids=["nearest", "many", "all", "blocks of queries", "blocks of keys"],
)
def test_search_exactly_equals_a_plain_search(num_queries: int, num_keys: int, k: int) -> None:
    queries, keys = draw(num_queries, 16, 0), draw(num_keys, 16, 1)
    values, indices = search_exactly(queries, [keys], k, CPU)
    expected, places = search_plainly(queries, keys, k)
    assert values.dtype == np.float32
    assert indices.dtype == np.int64
    np.testing.assert_allclose(values, expected, rtol=0, atol=1e-5)  # float32 products
    at_place = np.take_along_axis(queries @ keys.T, indices, 1)  # close ones may change places
    np.testing.assert_allclose(at_place, expected, rtol=0, atol=1e-5)
    assert all(len(set(row)) == k for row in indices)
    assert (indices == places).mean() > 0.999


def test_search_exactly_of_more_keys_than_the_last_block_holds() -> None:
    """The last of three blocks has fewer keys than are sought."""
    queries, keys = draw(2, 4, 0), draw(2 * 65_536 + 3, 4, 1)
    values, _ = search_exactly(queries, [keys], 50, CPU)
    np.testing.assert_allclose(values, search_plainly(queries, keys, 50)[0], rtol=0, atol=1e-5)


def test_search_exactly_in_parts_is_that_of_all_keys() -> None:
    queries, keys = draw(1100, 16, 0), draw(300, 16, 1)
    values, indices = search_exactly(queries, [keys], 60, CPU)
    found, places = search_exactly(queries, iter([keys[:100], keys[100:110], keys[110:]]), 60, CPU)
    np.testing.assert_allclose(found, values, rtol=0, atol=1e-5)  # products of other shapes
    assert (places == indices).mean() > 0.999


def test_search_exactly_equals_faiss() -> None:
    queries, keys = normalised(draw(200, 64, 0)), normalised(draw(3000, 64, 1))
    ours, places = search_exactly(queries, [keys], 200, CPU)
    theirs, indices = nearest(queries, keys, 200)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6)  # summed in another order
    assert (places == indices).mean() > 0.999


def test_search_exactly_ties_all_come_before_a_farther_key() -> None:
    keys = np.array([[0, 1], [1, 0], [1, 0], [0.5, 0.5], [1, 0]], np.float32)
    values, indices = search_exactly(np.array([[1, 0]], np.float32), [keys], 4, CPU)
    assert set(indices[0, :3]) == {1, 2, 4}
    assert indices[0, 3] == 3
    np.testing.assert_array_equal(values, [[1, 1, 1, 0.5]])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_search_exactly_on_the_gpu_equals_a_plain_search() -> None:
    """In float32, not in TF32, whose products are off by 1e-3."""
    queries, keys = normalised(draw(500, 512, 0)), normalised(draw(70_000, 512, 1))
    values, _ = search_exactly(queries, [keys], 200, torch.device("cuda"))
    np.testing.assert_allclose(values, search_plainly(queries, keys, 200)[0], rtol=0, atol=2e-6)

"""FAISS against plain torch in float64: neighbours, votes, ties, more neighbours than samples."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.measures import knn
from pipeline.measures.knn import knn_classify, nearest, normalised
from pipeline.student.vectors import Vectors


def draw(count: int, num_dims: int, seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    samples = generator.standard_normal((count, num_dims)) * 3 + 0.5
    return samples.astype(np.float32)


def cosines(queries: np.ndarray, keys: np.ndarray) -> Tensor:
    """[Q, N] float64."""
    unit = [F.normalize(torch.from_numpy(array).double()) for array in (queries, keys)]
    return unit[0] @ unit[1].T


def torch_classify(
    train: np.ndarray, labels: np.ndarray, test: np.ndarray, k: int, temperature: float
) -> Tensor:
    """Votes [M, C] of the weighted k nearest neighbours (Wu et al. 2018)."""
    similarities, indices = cosines(test, train).topk(min(k, len(train)))
    votes = torch.zeros(len(test), int(labels.max()) + 1, dtype=torch.float64)
    chosen = torch.from_numpy(labels)[indices]
    return votes.scatter_add_(1, chosen, ((similarities - 1) / temperature).exp())


@pytest.mark.parametrize("k", [1, 20, 200, 300])
def test_nearest_equals_torch_top_k(k: int) -> None:
    keys, queries = draw(300, 64, 0), draw(50, 64, 1)
    expected, indices = cosines(queries, keys).topk(k)
    found, found_indices = nearest(queries, keys, k)
    np.testing.assert_allclose(found, expected.numpy(), rtol=0, atol=2e-6)  # float32 products
    np.testing.assert_array_equal(found_indices, indices.numpy())


@pytest.mark.parametrize(("k", "temperature"), [(1, 0.1), (20, 0.1), (200, 0.1), (200, 0.02)])
def test_knn_classify_equals_torch(k: int, temperature: float) -> None:
    train, test = draw(600, 16, 0), draw(300, 16, 1)
    labels = np.random.default_rng(2).integers(0, 7, 600)
    votes = torch_classify(train, labels, test, k, temperature)
    first, second = votes.topk(2).values.T
    is_clear = (first > second * (1 + 1e-4)).numpy()  # float32 cosines move votes by 1e-5
    assert is_clear.mean() > 0.97
    found = knn_classify(train, labels, test, k=k, temperature=temperature)
    np.testing.assert_array_equal(found[is_clear], votes.argmax(1).numpy()[is_clear])


@pytest.mark.parametrize("k", [5, 6, 1000])
def test_nearest_more_neighbours_than_keys_returns_each_key_once(k: int) -> None:
    similarities, indices = nearest(draw(3, 8, 1), draw(5, 8, 0), k)
    assert similarities.shape == indices.shape == (3, 5)
    assert np.sort(indices).tolist() == [[0, 1, 2, 3, 4]] * 3
    assert (np.diff(similarities) <= 0).all()


def test_nearest_tied_keys_all_come_before_a_farther_one() -> None:
    """Three copies of one key, on other scales: cosine does not tell them apart."""
    key = draw(1, 8, 0)
    keys = np.concatenate([-key, key, 2 * key, key + draw(1, 8, 3), 0.5 * key])
    similarities, indices = nearest(key, keys, 4)
    assert set(indices[0, :3]) == {1, 2, 4}
    assert indices[0, 3] == 3
    np.testing.assert_allclose(similarities[0, :3], 1, rtol=0, atol=1e-6)


def test_knn_classify_tied_neighbours_share_the_vote() -> None:
    """Two equal keys of label 2 outvote one of label 1 just beside the query's direction."""
    train = np.array([[1, 0.01], [1, 0.1], [1, 0.1], [0, 1]], np.float32)
    labels = np.array([1, 2, 2, 0])
    found = knn_classify(train, labels, np.array([[3, 0]], np.float32), k=3, temperature=0.5)
    assert found.tolist() == [2]


def test_knn_classify_equal_votes_go_to_the_lowest_label() -> None:
    train = np.array([[1, 0], [1, 0]], np.float32)
    query = np.array([[2, 0]], np.float32)
    for labels in ([3, 1], [1, 3]):
        found = knn_classify(train, np.array(labels), query, k=2, temperature=0.1)
        assert found.tolist() == [1]


def test_normalised_rows_have_norm_one_and_zeros_stay() -> None:
    array = np.array([[3, 4], [0, 0], [-1e-3, 0]])
    expected = [[0.6, 0.8], [0, 0], [-1, 0]]
    np.testing.assert_allclose(normalised(array), expected, rtol=0, atol=1e-7)
    assert normalised(array).dtype == np.float32


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nearest_of_a_representation_that_is_not_finite_is_refused(value: float) -> None:
    """FAISS finds no neighbour of it, and index -1 would be the last label's vote."""
    good, bad = draw(9, 4, 0), draw(9, 4, 1)
    bad[3, 2] = value
    for queries, keys in ((good, bad), (bad, good)):
        with pytest.raises(ValueError, match="not finite"):
            nearest(queries, keys, 2)


@pytest.fixture(params=["faiss", "torch"])
def _small_blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys 50, queries 20 and votes 3 at a time, by either engine."""
    monkeypatch.setattr(knn, "HAS_FAISS", knn.HAS_FAISS and request.param == "faiss")
    monkeypatch.setattr(knn, "KEY_NUMBERS", 16 * 50)
    monkeypatch.setattr(knn, "QUERY_NUMBERS", 16 * 20)
    monkeypatch.setattr(knn, "_NORMALISED", 16 * 7)
    monkeypatch.setattr(knn, "_VOTES", 7 * 3)


@pytest.mark.usefixtures("_small_blocks")
@pytest.mark.parametrize("k", [1, 20, 50, 120, 330])
def test_nearest_in_blocks_equals_torch_top_k(k: int) -> None:
    """The last of seven blocks of keys has fewer than most `k`."""
    keys, queries = draw(320, 16, 0), draw(50, 16, 1)
    expected, indices = cosines(queries, keys).topk(min(k, 320))
    found, found_indices = nearest(Vectors([queries]), Vectors([keys[:200], keys[200:]]), k)
    np.testing.assert_allclose(found, expected.numpy(), rtol=0, atol=2e-6)  # float32 products
    assert (found_indices == indices.numpy()).mean() > 0.999  # close ones may change places
    assert all(len(set(row)) == min(k, 320) for row in found_indices)


@pytest.mark.usefixtures("_small_blocks")
def test_nearest_tied_keys_in_several_blocks_all_come_before_a_farther_one() -> None:
    key = draw(1, 16, 0)
    keys = np.concatenate([draw(49, 16, 1), key, draw(60, 16, 2), 2 * key, draw(40, 16, 3), key])
    similarities, indices = nearest(key, keys, 4)
    assert set(indices[0, :3]) == {49, 110, 151}
    assert similarities[0, 3] < similarities[0, 2] == pytest.approx(1)


def test_knn_classify_in_blocks_is_that_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    train, test = draw(330, 16, 0), draw(70, 16, 1)
    labels = np.random.default_rng(2).integers(0, 7, 330)
    at_once = knn_classify(train, labels, test, k=20, temperature=0.1)
    for name, numbers in (("KEY_NUMBERS", 800), ("QUERY_NUMBERS", 320), ("_VOTES", 21)):
        monkeypatch.setattr(knn, name, numbers)
    found = knn_classify(Vectors([train]), labels, Vectors([test]), k=20, temperature=0.1)
    np.testing.assert_array_equal(found, at_once)


def test_nearest_leaves_what_it_is_given_as_it_is() -> None:
    keys, queries = draw(30, 8, 0), draw(5, 8, 1)
    before = keys.copy(), queries.copy()
    nearest(queries, keys, 3)
    normalised(keys)
    np.testing.assert_array_equal(keys, before[0])
    np.testing.assert_array_equal(queries, before[1])


def test_knn_classify_without_queries_has_no_labels() -> None:
    train, labels = draw(9, 4, 0), np.arange(9)
    assert knn_classify(train, labels, np.empty((0, 4), np.float32), k=3, temperature=1).size == 0

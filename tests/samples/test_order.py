"""The order of samples: whole passes, and a pure function of position."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.samples.order import Order
from pipeline.samples.stream import StepRows


def order(num_samples: int = 10, seed: int = 0, purpose: str = "real") -> Order:
    return Order([num_samples], seed, purpose)


@pytest.mark.parametrize("num_samples", [1, 2, 7, 100])
def test_indices_each_pass_holds_every_sample_once(num_samples: int) -> None:
    found = order(num_samples).indices(0, 4 * num_samples).reshape(4, num_samples)
    for one_pass in found:
        assert sorted(one_pass) == list(range(num_samples))


def test_indices_passes_differ_from_one_another() -> None:
    found = order(50).indices(0, 200).reshape(4, 50)
    assert len({tuple(one_pass) for one_pass in found}) == 4


@pytest.mark.parametrize("batch", [1, 3, 10, 16, 35])
def test_indices_batches_straddling_passes_continue_the_sequence(batch: int) -> None:
    expected = order().indices(0, 5 * batch)
    stream = order()
    found = np.concatenate([stream.indices(step * batch, batch) for step in range(5)])
    np.testing.assert_array_equal(found, expected)


def test_indices_of_a_position_do_not_depend_on_what_was_asked_before() -> None:
    used = order()
    expected = [order().indices(start, 7) for start in range(100)]
    for start in [50, 3, 99, 0, 20, 21, 3]:
        np.testing.assert_array_equal(used.indices(start, 7), expected[start])


def test_indices_far_positions_start_a_pass_of_their_own() -> None:
    found = order(10).indices(10**9, 10)
    assert sorted(found) == list(range(10))


def test_indices_depend_on_seed_and_purpose() -> None:
    sequences = {
        tuple(order(20, seed, purpose).indices(0, 20))
        for seed in (0, 1)
        for purpose in ("real", "synthetic")
    }
    assert len(sequences) == 4


def test_indices_parts_of_the_workers_cover_a_pass_exactly_once() -> None:
    """A batch of 12 over 3 workers."""
    workers = [StepRows(order(36), 12, rank, 3) for rank in range(3)]
    batches = [np.concatenate([worker.rows(step) for worker in workers]) for step in range(3)]
    np.testing.assert_array_equal(np.concatenate(batches), order(36).indices(0, 36))
    assert sorted(np.concatenate(batches)) == list(range(36))


@pytest.mark.parametrize("shard_sizes", [[], [0], [3, 0]])
def test_order_of_no_samples_is_refused(shard_sizes: list[int]) -> None:
    with pytest.raises(ValueError, match="none of them empty"):
        Order(shard_sizes, 0, "real")

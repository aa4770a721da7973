"""Orders and steps, for any shards, readers and point of interruption."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.samples.order import Order
from pipeline.samples.stream import StepRows

SETTINGS = settings(deadline=None, max_examples=80, database=None)

shard_sizes = st.lists(st.integers(1, 12), min_size=1, max_size=8)
windows = st.one_of(st.none(), st.integers(1, 40))
seeds = st.integers(0, 3)
workers = st.integers(1, 6)


def order(sizes: list[int], seed: int, window: int | None) -> Order:
    return Order(sizes, seed, "real", window)


def shard_of(sizes: list[int], samples: np.ndarray) -> np.ndarray:
    return np.searchsorted(np.cumsum(sizes), samples, side="right")


# Passes


@SETTINGS
@given(sizes=shard_sizes, seed=seeds, window=windows, first_pass=st.integers(0, 10**6))
def test_order_every_pass_holds_every_sample_exactly_once(
    sizes: list[int], seed: int, window: int | None, first_pass: int
) -> None:
    stream, length = order(sizes, seed, window), sum(sizes)
    assert stream.num_samples == length
    found = stream.indices(first_pass * length, 3 * length).reshape(3, length)
    for one_pass in found:
        np.testing.assert_array_equal(np.sort(one_pass), np.arange(length))


@SETTINGS
@given(
    sizes=shard_sizes,
    seed=seeds,
    window=windows,
    asked=st.lists(st.tuples(st.integers(0, 300), st.integers(0, 50)), min_size=1, max_size=12),
)
def test_order_at_a_position_does_not_depend_on_what_was_asked_before(
    sizes: list[int], seed: int, window: int | None, asked: list[tuple[int, int]]
) -> None:
    stream = order(sizes, seed, window)
    whole = order(sizes, seed, window).indices(0, 350)
    for start, count in asked:
        np.testing.assert_array_equal(stream.indices(start, count), whole[start : start + count])


@SETTINGS
@given(sizes=shard_sizes, window=windows)
def test_order_is_another_for_another_seed_or_purpose(sizes: list[int], window: int | None) -> None:
    orders = [Order(sizes, seed, name, window) for seed in (0, 1) for name in ("real", "synthetic")]
    found = {tuple(stream.indices(0, 8 * sum(sizes))) for stream in orders}
    assert len(found) == 4 or sum(sizes) < 4


# Windows


@SETTINGS
@given(sizes=shard_sizes, seed=seeds, window=st.integers(1, 40))
def test_order_draws_whole_shards_from_one_bounded_window_after_the_other(
    sizes: list[int], seed: int, window: int
) -> None:
    """A pass is a row of windows: each of whole shards, few enough to hold in memory."""
    shards = shard_of(sizes, order(sizes, seed, window).indices(0, sum(sizes)))
    left = list(sizes)
    in_use: set[int] = set()
    for shard in shards:
        in_use.add(int(shard))
        left[shard] -= 1
        if all(left[used] == 0 for used in in_use):
            assert sum(sizes[used] for used in in_use) < window + max(sizes)
            in_use.clear()
    assert not in_use


@SETTINGS
@given(sizes=shard_sizes, seed=seeds)
def test_order_without_a_window_is_that_of_one_that_holds_everything(
    sizes: list[int], seed: int
) -> None:
    length = sum(sizes)
    for window in (length, length + 7):
        np.testing.assert_array_equal(
            order(sizes, seed, None).indices(0, 2 * length),
            order(sizes, seed, window).indices(0, 2 * length),
        )


@SETTINGS
@given(sizes=shard_sizes, seed=seeds, window=windows, start=st.integers(0, 200))
def test_order_shards_ahead_hold_the_next_samples(
    sizes: list[int], seed: int, window: int | None, start: int
) -> None:
    stream = order(sizes, seed, window)
    for position in range(start, start + 20):
        ahead = stream.shards_ahead(position)
        following = shard_of(sizes, stream.indices(position, 2))
        assert set(following.tolist()) <= set(ahead.tolist())


# Steps over ranks


@SETTINGS
@given(
    sizes=shard_sizes,
    seed=seeds,
    window=windows,
    num_workers=workers,
    part=st.integers(1, 5),
    num_passes=st.integers(1, 2),
)
def test_steps_of_all_ranks_hold_every_sample_exactly_once_per_pass(
    sizes: list[int], seed: int, window: int | None, num_workers: int, part: int, num_passes: int
) -> None:
    """Ranks may outnumber the shards, and a batch may be larger than all of them together."""
    length, batch = sum(sizes), num_workers * part
    ranks = [
        StepRows(order(sizes, seed, window), batch, rank, num_workers)
        for rank in range(num_workers)
    ]
    num_steps = -(-num_passes * length // batch)
    sequence = np.concatenate([rows.rows(step) for step in range(num_steps) for rows in ranks])
    for index in range(num_passes):
        one_pass = sequence[index * length : (index + 1) * length]
        np.testing.assert_array_equal(np.sort(one_pass), np.arange(length))


@SETTINGS
@given(
    sizes=shard_sizes,
    seed=seeds,
    window=windows,
    before=workers,
    after=workers,
    interrupted_at=st.integers(0, 12),
)
def test_steps_resumed_on_other_ranks_go_on_with_the_same_samples(
    sizes: list[int], seed: int, window: int | None, before: int, after: int, interrupted_at: int
) -> None:
    batch, num_steps = before * after, 14

    def sequence(num_workers: int, first: int, last: int) -> list[int]:
        """What all ranks of a run that starts at `first` read, by step."""
        stream = order(sizes, seed, window)
        ranks = [StepRows(stream, batch, rank, num_workers) for rank in range(num_workers)]
        return [
            int(row) for step in range(first, last) for rows in ranks for row in rows.rows(step)
        ]

    uninterrupted = sequence(1, 0, num_steps)
    resumed = sequence(before, 0, interrupted_at) + sequence(after, interrupted_at, num_steps)
    assert resumed == uninterrupted


@SETTINGS
@given(
    sizes=shard_sizes,
    batch=st.integers(1, 30),
    num_workers=workers,
    step=st.integers(0, 30),
    window=windows,
)
def test_steps_shards_ahead_hold_what_the_step_begins_with(
    sizes: list[int], batch: int, num_workers: int, step: int, window: int | None
) -> None:
    batch *= num_workers
    stream = order(sizes, 0, window)
    ahead = StepRows(stream, batch, num_workers - 1, num_workers).shards_ahead(step)
    first = StepRows(stream, batch, 0, num_workers).rows(step)[:1]
    assert set(shard_of(sizes, first).tolist()) <= set(ahead.tolist())

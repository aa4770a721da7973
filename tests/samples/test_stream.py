"""Steps of real shards, loaded ahead in threads, on any number of ranks."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.samples.order import Order
from pipeline.samples.stream import LOADED_AHEAD, LoadedAhead, StepRows
from shards.reader import ShardReader
from shards.storage import Folder
from tests.support.shard_sets import REMEDY, write_indices

SETTINGS = settings(deadline=None, max_examples=40, database=None)


def read_step(reader: ShardReader, rows: StepRows, step: int) -> np.ndarray:
    return reader.gather("index", rows.rows(step))


def read_steps(
    reader: ShardReader, window: int | None, num_workers: int, batch: int, steps: range
) -> Iterator[np.ndarray]:
    """The batch of every step, as the ranks of a run read it from the shards."""
    orders = [Order(reader.shard_sizes, 7, "real", window) for _ in range(num_workers)]
    ranks = [StepRows(stream, batch, rank, num_workers) for rank, stream in enumerate(orders)]
    loaded = [LoadedAhead(partial(read_step, reader, rows)) for rows in ranks]
    for step in steps:
        yield np.concatenate([rank.get(step) for rank in loaded])
    for rank in loaded:
        rank.close()


@pytest.mark.slow
@SETTINGS
@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=6),
    used=st.integers(1, 100),
    before=st.integers(1, 4),
    after=st.integers(1, 4),
    interrupted_at=st.integers(0, 6),
    window=st.one_of(st.none(), st.integers(1, 30)),
)
def test_stream_of_shards_interrupted_anywhere_and_resumed_on_other_ranks_is_exact(
    tmp_path_factory: pytest.TempPathFactory,
    sizes: list[int],
    used: int,
    before: int,
    after: int,
    interrupted_at: int,
    window: int | None,
) -> None:
    folder = Folder.at(tmp_path_factory.mktemp("shards"))
    write_indices(folder, sizes)
    length = min(used, sum(sizes))
    reader = ShardReader(folder, remedy=REMEDY, num_samples=length)
    batch, num_steps = before * after, 2 * length + 1
    interrupted_at = min(interrupted_at, num_steps)
    found = [
        *read_steps(reader, window, before, batch, range(interrupted_at)),
        *read_steps(reader, window, after, batch, range(interrupted_at, num_steps)),
    ]
    whole = list(read_steps(reader, window, 1, batch, range(num_steps)))
    np.testing.assert_array_equal(np.stack(found), np.stack(whole))
    for one_pass in np.concatenate(found)[: 2 * length].reshape(2, length):
        np.testing.assert_array_equal(np.sort(one_pass), np.arange(length))


@pytest.mark.parametrize(("batch", "num_workers"), [(7, 2), (1, 2), (10, 4)])
def test_step_rows_refuse_workers_that_do_not_divide_the_batch(
    batch: int, num_workers: int
) -> None:
    with pytest.raises(ValueError, match="divide"):
        StepRows(Order([10], 0, "real"), batch, 0, num_workers)


@pytest.mark.parametrize("sizes", [[], [3, 0, 2], [-1]])
def test_order_of_no_samples_or_an_empty_shard_is_refused(sizes: list[int]) -> None:
    with pytest.raises(ValueError, match="none of them empty"):
        Order(sizes, 0, "real")


# Loading ahead


@SETTINGS
@given(asked=st.lists(st.integers(0, 30), min_size=1, max_size=20))
def test_loaded_ahead_gives_each_step_its_own_in_any_order(asked: list[int]) -> None:
    with closing(LoadedAhead(lambda step: step * step)) as loaded:
        assert [loaded.get(step) for step in asked] == [step * step for step in asked]


def test_loaded_ahead_loads_the_next_steps_while_one_is_used_and_no_more() -> None:
    started: list[int] = []
    with closing(LoadedAhead(started.append)) as loaded:
        loaded.get(5)
        deadline = time.monotonic() + 10
        while len(started) < 1 + LOADED_AHEAD and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(0.05)
        assert sorted(started) == list(range(5, 6 + LOADED_AHEAD))


def test_loaded_ahead_loads_every_step_once_when_they_come_in_order() -> None:
    started: list[int] = []
    with closing(LoadedAhead(started.append)) as loaded:
        for step in range(3, 20):
            loaded.get(step)
    assert sorted(set(started)) == sorted(started)
    assert set(range(3, 20)) <= set(started)


def test_loaded_ahead_raises_what_loading_raised_at_its_own_step() -> None:
    def load(step: int) -> int:
        if step == 2:
            raise OSError("step 2 is gone")
        return step

    with closing(LoadedAhead(load)) as loaded:
        assert [loaded.get(0), loaded.get(1)] == [0, 1]
        with pytest.raises(OSError, match="step 2 is gone"):
            loaded.get(2)
        assert loaded.get(3) == 3


def test_loaded_ahead_closed_loads_no_more() -> None:
    release, started = threading.Event(), []

    def load(step: int) -> int:
        started.append(step)
        if step:
            release.wait(10)
        return step

    loaded = LoadedAhead(load)
    assert loaded.get(0) == 0
    loaded.close()
    in_work = len(started)
    release.set()
    time.sleep(0.05)
    assert len(started) <= in_work + 1
    with pytest.raises(RuntimeError):
        loaded.get(10)


def test_threads_that_read_one_order_at_once_see_the_same_sequence(tmp_path: Path) -> None:
    stream = Order([5] * 12, 0, "real", window=10)
    expected = [Order([5] * 12, 0, "real", window=10).indices(start, 9) for start in range(240)]
    found: list[list[np.ndarray]] = [[] for _ in range(4)]

    def read(thread: int) -> None:
        found[thread] = [stream.indices(start, 9) for start in range(240)]

    threads = [threading.Thread(target=read, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for sequence in found:
        np.testing.assert_array_equal(np.stack(sequence), np.stack(expected))

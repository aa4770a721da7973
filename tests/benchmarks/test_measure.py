"""What all benchmarks measure by."""

from __future__ import annotations

import mmap

import numpy as np
import torch

from benchmarks.measure import OURS, against_rivals, interleave, peak_mb, resident_mb, timed


def test_interleave_runs_the_tasks_in_turns_and_leaves_out_the_warm_up() -> None:
    calls: list[str] = []
    tasks = {name: lambda name=name: calls.append(name) for name in ("a", "b")}

    kept = interleave(tasks, 3, torch.device("cpu"), warm_up=2, choose=len)

    assert calls == ["a", "b"] * 5
    assert kept == {"a": 3, "b": 3}


def test_ratio_above_one_is_faster_than_the_rival() -> None:
    rows = against_rivals("step", "views/s", {OURS: 30.0, "theirs": 20.0, "other": 60.0})
    assert [row[2:] for row in rows] == [("theirs", 20.0, "1.50 x"), ("other", 60.0, "0.50 x")]
    assert against_rivals("step", "views/s", {OURS: 30.0}) == [("step", "30 views/s", "", "", "")]


def test_memory_of_this_process_grows_with_what_it_holds() -> None:
    before = resident_mb()
    held, seconds = timed(lambda: mmap.mmap(-1, 64 << 20))  # malloc may have freed pages at hand
    np.frombuffer(held, np.uint8).fill(1)
    assert resident_mb() - before > 60
    assert peak_mb() >= resident_mb() - 1
    assert len(held) == 64 << 20
    assert seconds > 0

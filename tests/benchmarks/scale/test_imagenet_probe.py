"""Probe and kNN under a limit on memory, at toy size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.scale.imagenet_probe import PARTS, Size, compare, read_rows, write_rows

SIZE = Size(num_rows=9000, num_dims=16, num_classes=5, num_queries=200)


def test_rows_are_written_once_and_read_with_their_labels(tmp_path: Path) -> None:
    write_rows(tmp_path, SIZE)
    train, labels = read_rows(tmp_path, "train")
    assert train.shape == (9000, 16)
    assert set(labels.tolist()) == set(range(5))
    first = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*-*.npy")}
    write_rows(tmp_path, SIZE)
    assert {path: path.stat().st_mtime_ns for path in first} == first
    np.testing.assert_array_equal(read_rows(tmp_path, "train")[1], labels)


@pytest.mark.slow
def test_both_run_under_a_limit_and_say_what_they_took(tmp_path: Path) -> None:
    found = compare(tmp_path, SIZE, 1_500_000_000, PARTS, None).by_heading()
    assert [row[""] for row in found] == list(PARTS)
    for row in found:
        assert float(row["top-1 %"]) > 90
        assert 0 < float(row["private memory, MB"]) < 1500

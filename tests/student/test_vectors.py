"""Rows in blocks, read a part at a time."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from pipeline.student.vectors import Vectors

ROWS = np.arange(60, dtype=np.float32).reshape(20, 3)


def split(sizes: list[int], dtype: str = "float32") -> list[np.ndarray]:
    return np.split(ROWS.astype(dtype), np.cumsum(sizes)[:-1])


def test_gather_takes_rows_of_several_blocks_in_their_order() -> None:
    rows = np.array([19, 0, 7, 7, 8])
    for sizes in ([20], [7, 1, 12], [1] * 20):
        found = Vectors(split(sizes)).gather(rows)
        np.testing.assert_array_equal(found, ROWS[rows])
        assert found.flags.writeable


def test_gather_outside_is_refused() -> None:
    for row in (-1, 20):
        with pytest.raises(IndexError, match="outside"):
            Vectors(split([20])).gather(np.array([row]))


def test_take_of_take_is_rows_of_rows() -> None:
    taken = Vectors(split([7, 13])).take(np.array([5, 9, 13])).take(np.array([2, 0]))
    assert taken.shape == (2, 3)
    np.testing.assert_array_equal(taken.array(), ROWS[[13, 5]])


@pytest.mark.parametrize("num_rows", [1, 6, 20, 50, None])
def test_parts_end_to_end_are_all_rows(num_rows: int | None) -> None:
    parts = list(Vectors(split([7, 13])).parts(num_rows))
    assert all(len(part) <= (num_rows or 20) for part in parts)
    np.testing.assert_array_equal(np.concatenate(parts), ROWS)


def test_parts_in_the_same_memory_are_all_rows() -> None:
    parts = [part.copy() for part in Vectors(split([7, 13])).parts(6, reuse=True)]
    np.testing.assert_array_equal(np.concatenate(parts), ROWS)


@pytest.mark.parametrize(("dtype", "expected"), [("float16", ROWS), ("uint8", ROWS / 255)])
def test_what_is_read_is_float32_and_pixels_are_in_unit_range(
    dtype: str, expected: np.ndarray
) -> None:
    found = Vectors(split([8, 12], dtype)).array()
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected.astype(np.float32))


def test_blocks_in_files_travel_as_their_names(tmp_path: Path) -> None:
    np.save(tmp_path / "block.npy", np.zeros((1000, 300), np.float32))
    mapped = np.load(tmp_path / "block.npy", mmap_mode="r")
    content = pickle.dumps(Vectors([mapped, mapped]).take(np.arange(3)))
    assert len(content) < 2000
    assert pickle.loads(content).array().shape == (3, 300)


@pytest.mark.parametrize("blocks", [[], [ROWS, ROWS[:, :2]], [ROWS, ROWS.astype(np.float16)]])
def test_blocks_of_several_widths_or_types_are_refused(blocks: list[np.ndarray]) -> None:
    with pytest.raises(ValueError, match="one width and type"):
        Vectors(blocks)

"""Rows in blocks against the same rows in one array."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.student.vectors import Vectors

ROWS = np.random.default_rng(0).standard_normal((23, 4)).astype(np.float32)


def in_blocks(rows: np.ndarray, folder: Path) -> Vectors:
    blocks = []
    for index, part in enumerate((rows[:10], rows[10:11], rows[11:11], rows[11:])):
        np.save(folder / f"{index}.npy", part)
        is_empty = not len(part)
        blocks.append(np.load(folder / f"{index}.npy", mmap_mode=None if is_empty else "r"))
    return Vectors(blocks)


def test_vectors_are_the_rows_end_to_end(tmp_path: Path) -> None:
    vectors = in_blocks(ROWS, tmp_path)
    assert vectors.shape == (len(vectors), vectors.num_dims) == (23, 4)
    np.testing.assert_array_equal(vectors.array(), ROWS)
    rows = np.array([22, 0, 10, 10, 9, 11])
    np.testing.assert_array_equal(vectors.gather(rows), ROWS[rows])


@pytest.mark.parametrize("num_rows", [1, 7, 23, 100, None])
def test_parts_are_all_rows_in_order_and_copies(num_rows: int | None, tmp_path: Path) -> None:
    parts = list(in_blocks(ROWS, tmp_path).parts(num_rows))
    np.testing.assert_array_equal(np.concatenate(parts), ROWS)
    assert all(part.flags.writeable for part in parts)
    assert {len(part) for part in parts[:-1]} <= {num_rows}


def test_parts_in_the_same_memory_are_all_rows(tmp_path: Path) -> None:
    parts = in_blocks(ROWS, tmp_path).parts(5, reuse=True)
    np.testing.assert_array_equal(np.concatenate([part.copy() for part in parts]), ROWS)


def test_take_is_of_those_taken_before(tmp_path: Path) -> None:
    taken = in_blocks(ROWS, tmp_path).take(np.arange(20, 0, -1)).take(np.array([0, 5, 6]))
    np.testing.assert_array_equal(taken.array(), ROWS[[20, 15, 14]])
    np.testing.assert_array_equal(np.concatenate(list(taken.parts(2))), ROWS[[20, 15, 14]])


@pytest.mark.parametrize(("dtype", "scale"), [(np.float16, 1), (np.uint8, 255)])
def test_vectors_are_read_as_float32(dtype: type, scale: int, tmp_path: Path) -> None:
    stored = (np.abs(ROWS) * 50).astype(dtype)
    vectors = in_blocks(stored, tmp_path)
    expected = stored.astype(np.float32) / np.float32(scale)
    for found in (vectors.array(), np.concatenate(list(vectors.parts(5)))):
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("row", [-1, 23])
def test_gather_refuses_rows_that_are_not_there(row: int, tmp_path: Path) -> None:
    with pytest.raises(IndexError, match=r"outside \[0, 23\)"):
        in_blocks(ROWS, tmp_path).gather(np.array([0, row]))


@pytest.mark.parametrize("blocks", [[], [ROWS, ROWS[:, :3]], [ROWS, ROWS.astype(np.float16)]])
def test_vectors_of_no_block_or_of_unlike_ones_are_refused(blocks: list[np.ndarray]) -> None:
    with pytest.raises(ValueError, match="blocks must be"):
        Vectors(blocks)

"""Sums over mini-batches against the same in memory, and which rows a draw has."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.eval.logistic import streamed
from pipeline.eval.logistic.linear_loss import Objective, softmax_loss
from pipeline.eval.logistic.principal_axes import PrincipalAxes
from pipeline.eval.logistic.streamed import Draw, LabelledRows, StreamedObjective, percent_right
from pipeline.student.vectors import Vectors
from tests.eval.logistic.test_regression import CPU, draw_clouds

NONE = np.empty(0, np.int64)
MEAN, SCALE = np.full(6, 3, np.float32), 0.5


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streamed, "BATCH_NUMBERS", 6 * 50)


def on_disk(folder: Path, features: np.ndarray, block: int) -> Vectors:
    """The rows of `features` in memory-mapped blocks."""
    blocks = []
    for start in range(0, len(features), block):
        np.save(folder / f"{start}.npy", features[start : start + block])
        blocks.append(np.load(folder / f"{start}.npy", mmap_mode="r"))
    return Vectors(blocks)


def labelled(folder: Path, never: np.ndarray = NONE) -> LabelledRows:
    """330 rows of three classes, called 2, 5 and 8."""
    features, labels = draw_clouds(330, 3)
    vectors = on_disk(folder, features.float().numpy(), block=70)
    draw = Draw(330, 1, 0, NONE, never)
    classes = np.array([2, 5, 8])
    return LabelledRows(vectors, 3 * labels.numpy() + 2, draw, classes, MEAN, SCALE, CPU)


@pytest.mark.parametrize("never", [NONE, np.array([0, 49, 50, 329]), np.arange(40, 160)])
def test_streamed_objective_is_that_of_rotated_features_in_memory(
    tmp_path: Path, never: np.ndarray
) -> None:
    rows = labelled(tmp_path, never)
    features, labels = draw_clouds(330, 3)
    kept = np.setdiff1d(np.arange(330), never)
    x, y = ((features - 3) / SCALE)[kept], labels[kept]
    axes = PrincipalAxes.of(x)
    at_zero = replace(axes, mean=torch.zeros(6, dtype=torch.float64))
    weights = torch.from_numpy(np.random.default_rng(1).standard_normal((7, 3)))
    variances = torch.cat([axes.variances, torch.ones(1)])

    found = StreamedObjective(rows, at_zero).at(weights, 0.03)

    expected = Objective(at_zero.project(x), variances, y, softmax_loss).at(weights, 0.03)
    assert len(rows) == len(kept)
    assert found.value == pytest.approx(expected.value, rel=1e-6)
    torch.testing.assert_close(found.gradient.double(), expected.gradient, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.diagonal.double(), expected.diagonal, rtol=1e-4, atol=1e-7)


def test_percent_right_is_of_the_rows_meant(tmp_path: Path) -> None:
    rows = labelled(tmp_path, np.arange(100, 330))
    features, labels = draw_clouds(330, 3)
    weights = torch.from_numpy(np.random.default_rng(2).standard_normal((7, 3)))
    scores = ((features - 3) / SCALE) @ weights[:-1] + weights[-1]
    right = (scores.argmax(1) == labels)[:100]
    assert percent_right(rows, weights.float()) == pytest.approx(float(right.double().mean()) * 100)


def test_rows_are_counted_once_each(tmp_path: Path) -> None:
    counted: list[int] = []
    rows = replace(labelled(tmp_path, np.arange(20)), count=counted.append)
    assert sum(len(targets) for _, targets in rows.batches()) == sum(counted) == 310


def test_draw_has_one_row_of_every_stretch_and_those_always_and_not_those_never() -> None:
    always, never = np.array([3, 500, 1001]), np.array([0, 1, 2, 4, 5, 6, 7, 1000])
    draw = Draw(1002, 4, 0, always, never)
    rows = np.concatenate(list(draw.parts(60)))
    assert (np.diff(rows) > 0).all()
    assert set(always) <= set(rows)
    assert not set(never) & set(rows)
    others = np.setdiff1d(rows, always)
    assert len(set(others // 4)) == len(others)
    assert set(rows // 4) | {0, 1} >= set(range(250))
    assert draw.count(60) == len(rows)


def test_draw_is_a_function_of_its_seed_and_every_row_has_its_turn() -> None:
    draws = [
        np.concatenate(list(Draw(40, 4, seed, NONE, NONE).parts(3))).tolist() for seed in range(60)
    ]
    again = np.concatenate(list(Draw(40, 4, 7, NONE, NONE).parts(3)))
    assert again.tolist() == draws[7]
    assert {row for rows in draws for row in rows} == set(range(40))


def test_draw_of_every_row_is_all_but_those_never() -> None:
    rows = list(Draw(10, 1, 0, NONE, np.array([2, 9])).parts(4))
    assert [part.tolist() for part in rows] == [[0, 1, 3], [4, 5, 6, 7], [8]]

"""Which labels a probe gets that has few of them."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.config.eval import EvalConfig
from pipeline.eval.probes.probe import check_few_labels, draw_few_labels
from shards.errors import UserError


def test_draw_few_labels_takes_the_same_number_of_every_class() -> None:
    labels = np.random.default_rng(0).integers(0, 5, 200)
    rows = draw_few_labels(labels, "7_per_class", seed=3)
    assert np.bincount(labels[rows]).tolist() == [7] * 5
    assert sorted(set(rows)) == rows.tolist()


def test_draw_few_labels_takes_all_of_a_smaller_class() -> None:
    labels = np.array([0] * 20 + [1] * 3)
    rows = draw_few_labels(labels, "5_per_class", seed=0)
    assert np.bincount(labels[rows]).tolist() == [5, 3]


def test_draw_few_labels_takes_a_share_of_every_class_and_one_at_least() -> None:
    labels = np.array([0] * 40 + [1] * 100 + [2] * 3)
    rows = draw_few_labels(labels, "5_percent", seed=0)
    assert np.bincount(labels[rows]).tolist() == [2, 5, 1]


@pytest.mark.parametrize(
    ("few", "words"),
    [
        ("40_per_class", "all 120 labels"),
        ("2_percent", "less than one for each of 3 classes"),
        ("39_per_class", None),
        ("2.5_percent", None),
    ],
)
def test_few_labels_that_are_not_what_they_are_called_are_refused(
    few: str, words: str | None
) -> None:
    config = EvalConfig(few_labels=(few,))
    labels = np.repeat([0, 1, 2], 40)
    if words is None:
        check_few_labels(config, labels)
        return
    with pytest.raises(UserError, match=rf"eval\.few_labels: {few}.*{words}"):
        check_few_labels(config, labels)


def test_draw_few_labels_is_a_function_of_the_seed() -> None:
    labels = np.random.default_rng(0).integers(0, 5, 200)
    draws = [draw_few_labels(labels, "7_per_class", seed).tolist() for seed in (0, 0, 1, 2)]
    assert draws[0] == draws[1]
    assert len({tuple(rows) for rows in draws}) == 3


def test_draw_few_labels_every_sample_has_its_turn() -> None:
    labels = np.repeat([0, 1], 10)
    drawn = {
        row for seed in range(60) for row in draw_few_labels(labels, "3_per_class", seed).tolist()
    }
    assert drawn == set(range(20))

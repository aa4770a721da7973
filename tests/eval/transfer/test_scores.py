"""The metrics of the transfer table against their definitions, in plain loops."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from pipeline.eval.transfer.scores import average_precision, score
from pipeline.eval.transfer.sets import TRANSFER_SETS

PAPER_METRICS = {
    "top-1": {"cars", "cifar10", "cifar100", "dtd", "food", "sun397"},
    "mean per class": {"aircraft", "caltech101", "flowers", "pets"},
    "11-point mAP": {"voc2007"},
}


def reference_average_precision(is_positive: list[bool], scores: list[float]) -> Fraction:
    """Everingham et al. 2010, Eq. 1 and 2, in exact fractions."""
    total = sum(is_positive)
    points = []
    for threshold in set(scores):
        retrieved = [
            hit for hit, value in zip(is_positive, scores, strict=True) if value >= threshold
        ]
        points.append((Fraction(sum(retrieved), total), Fraction(sum(retrieved), len(retrieved))))
    best = [
        max(precision for recall, precision in points if recall >= Fraction(step, 10))
        for step in range(11)
    ]
    return sum(best) / Fraction(11)


def test_metrics_of_the_sets_are_the_papers() -> None:
    found = {
        metric: {name for name, listed in TRANSFER_SETS.items() if listed.metric == metric}
        for metric in PAPER_METRICS
    }
    assert found == PAPER_METRICS


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("levels", [4, 1000])
def test_average_precision_equals_the_definition(seed: int, levels: int) -> None:
    generator = np.random.default_rng(seed)
    is_positive = generator.random(37) < 0.4
    scores = generator.integers(0, levels, 37) / levels + is_positive * (seed % 3) * 0.2
    expected = reference_average_precision(is_positive.tolist(), scores.tolist())
    assert average_precision(is_positive, scores) == pytest.approx(float(expected), abs=1e-12)


def test_average_precision_counts_a_recall_of_exactly_three_tenths() -> None:
    """3/10 is less than 0.3 in the release's floats; here it is not."""
    is_positive = np.array([1, 1, 1, *[0] * 7, *[1] * 7], dtype=bool)
    found = average_precision(is_positive, -np.arange(17.0))
    assert found == pytest.approx((4 * 1 + 7 * 10 / 17) / 11, abs=1e-12)


def test_average_precision_wrong_first_image_is_not_precision_one_at_recall_zero() -> None:
    assert average_precision(np.array([False, True]), np.array([2.0, 1.0])) == pytest.approx(0.5)


def test_mean_average_precision_is_over_classes() -> None:
    labels = np.array([[1, 0, 0], [0, 1, 0], [1, 0, 0]], dtype=bool)  # nothing shows the third
    scores = np.array([[3.0, 3.0, 0.0], [1.0, 1.0, 0.0], [2.0, 2.0, 9.0]])
    assert score("11-point mAP", labels, scores) == pytest.approx(100 * (1 + 1 / 3) / 2)


def test_top1_and_mean_per_class_differ_where_classes_do() -> None:
    labels = np.array([0, 0, 0, 0, 0, 0, 2, 2])
    predicted = np.array([0, 0, 0, 0, 0, 1, 2, 0])
    scores = np.eye(3)[predicted]
    assert score("top-1", labels, scores) == pytest.approx(100 * 6 / 8)
    assert score("mean per class", labels, scores) == pytest.approx(100 * (5 / 6 + 1 / 2) / 2)

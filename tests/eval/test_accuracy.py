"""Metrics against loops written from their definitions."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch

from pipeline.eval.accuracy import eleven_point_map, mean_per_class, top1


def draw(num_rows: int, num_classes: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(num_rows, num_classes, generator=generator)
    return scores, torch.randint(num_classes, (num_rows,), generator=generator)


def hits(scores: torch.Tensor, labels: torch.Tensor) -> list[tuple[int, bool]]:
    rows = zip(scores.tolist(), labels.tolist(), strict=True)
    return [(label, max(range(len(row)), key=row.__getitem__) == label) for row, label in rows]


def reference_eleven_points(scores: list[float], labels: list[int]) -> Fraction:
    """Everingham et al. 2010, Eqs. 1-2, in fractions; a cut lets in all of a score's equals."""
    points = []
    for cut in set(scores):
        chosen = [label for score, label in zip(scores, labels, strict=True) if score >= cut]
        points.append((Fraction(sum(chosen), sum(labels)), Fraction(sum(chosen), len(chosen))))
    best = [
        max(precision for recall, precision in points if recall >= Fraction(level, 10))
        for level in range(11)
    ]
    return sum(best, Fraction(0)) / 11


def test_top1_is_the_share_of_hits() -> None:
    scores, labels = draw(50, 3)
    found = [hit for _, hit in hits(scores, labels)]
    assert top1(scores, labels) == pytest.approx(100 * sum(found) / 50)


def test_mean_per_class_weighs_small_and_large_classes_equally_and_skips_absent_ones() -> None:
    scores, labels = draw(60, 5)
    labels[labels == 3] = 0
    found = hits(scores, labels)
    shares = []
    for label in sorted(set(labels.tolist())):
        own = [hit for other, hit in found if other == label]
        shares.append(sum(own) / len(own))
    assert len(shares) == 4
    assert mean_per_class(scores, labels) == pytest.approx(100 * sum(shares) / 4)
    assert mean_per_class(scores, labels) != pytest.approx(top1(scores, labels))


@pytest.mark.parametrize("decimals", [6, 0])
def test_eleven_point_map_equals_the_definition_also_with_equal_scores(decimals: int) -> None:
    scores, _ = draw(40, 3, seed=1)
    scores = scores.round(decimals=decimals)
    labels = (torch.rand(40, 3, generator=torch.Generator().manual_seed(2)) < 0.25).int()
    labels[:10, 2] = 1  # recalls of tenths, where floats would miss the thresholds
    labels[10:, 2] = 0
    expected = [
        reference_eleven_points(scores[:, label].tolist(), labels[:, label].tolist())
        for label in range(3)
    ]
    assert eleven_point_map(scores, labels) == pytest.approx(100 * float(sum(expected)) / 3)


def test_eleven_point_map_perfect_ranking_is_100_and_a_wrong_best_score_costs() -> None:
    labels = torch.tensor([[1], [1], [0], [0]])
    assert eleven_point_map(torch.tensor([[4.0], [3.0], [2.0], [1.0]]), labels) == 100
    # one positive below one negative: precision is at most 1/2 from recall 0 on
    wrong = eleven_point_map(torch.tensor([[1.0], [2.0]]), torch.tensor([[1], [0]]))
    assert wrong == pytest.approx(50)


def test_eleven_point_map_without_a_positive_names_the_class() -> None:
    with pytest.raises(ValueError, match="class 1"):
        eleven_point_map(torch.zeros(2, 2), torch.tensor([[1, 0], [0, 0]]))

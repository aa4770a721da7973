"""Labels of synthetic samples, and how far neighbours share them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pipeline.eval.domains.label_agreement import (
    NUM_NEIGHBOURS,
    chance_agreement,
    plane_agreement,
    space_agreement,
)
from pipeline.eval.domains.labeller import label_synthetic
from pipeline.eval.probes.linear_probe import fit_linear_probe
from pipeline.eval.representation import Representation
from pipeline.student.vectors import Vectors

LABELS = np.array([1, 4, 7])
"""Classes need not be numbered without gaps."""


def draw_clouds(count: int, separation: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    places = generator.integers(0, len(LABELS), count)
    centres = separation * np.eye(len(LABELS), 6)
    samples = centres[places] + generator.standard_normal((count, 6))
    return samples.astype(np.float32), LABELS[places]


def represent(separation: float, name: str = "student") -> Representation:
    train, labels = draw_clouds(150, separation, 0)
    test, test_labels = draw_clouds(120, separation, 1)
    return Representation(
        name, Vectors([train]), labels, np.arange(150), Vectors([test]), test_labels
    )


def test_label_synthetic_separable_classes_are_found_with_confidence() -> None:
    synthetic, expected = draw_clouds(200, 12, 2)
    found = label_synthetic(represent(12), synthetic, seed=0)
    np.testing.assert_array_equal(found.labels, expected)
    assert found.accuracy == 100
    assert found.confidences.mean() > 0.65  # the strongest penalty of the grid is chosen here
    assert "right for 100.0 % of 120 real test images" in found.protocol
    assert "the student's representations of 150 labelled" in found.protocol


def test_label_synthetic_classes_that_cannot_be_told_apart_score_near_chance() -> None:
    synthetic, _ = draw_clouds(200, 0, 2)
    found = label_synthetic(represent(0), synthetic, seed=0)
    assert set(found.labels) <= set(LABELS)
    assert found.accuracy < 50
    assert found.confidences.mean() < 0.5


def test_label_synthetic_accuracy_is_that_of_the_linear_probe() -> None:
    real = represent(2)
    found = label_synthetic(real, real.test.array(), seed=3)
    predicted = fit_linear_probe(real.train, real.train_labels, seed=3).predict(real.test)
    np.testing.assert_array_equal(found.labels, predicted)
    assert found.accuracy == pytest.approx(100 * np.mean(predicted == real.test_labels))
    assert 50 < found.accuracy < 100


def test_fitted_probe_probabilities_sum_to_one_and_peak_at_its_prediction() -> None:
    real = represent(2)
    probe = fit_linear_probe(real.train, real.train_labels, seed=0)
    found = probe.predict_probabilities(real.test)
    assert found.shape == (120, 3)
    np.testing.assert_allclose(found.sum(1), 1, rtol=1e-6)
    np.testing.assert_array_equal(probe.classes[found.argmax(1)], probe.predict(real.test))


def reference_agreement(distances: list[list[float]], labels: np.ndarray, k: int) -> float:
    """One sample and one neighbour at a time; percent."""
    hits, total = 0, 0
    for sample, row in enumerate(distances):
        others = sorted((d, other) for other, d in enumerate(row) if other != sample)
        for _, other in others[:k]:
            hits += int(labels[other] == labels[sample])
            total += 1
    return 100 * hits / total


def cosine_distance(a: np.ndarray, b: np.ndarray) -> float:
    dot = sum(float(x) * float(y) for x, y in zip(a, b, strict=True))
    sizes = [math.sqrt(sum(float(x) ** 2 for x in vector)) for vector in (a, b)]
    return 1 - dot / sizes[0] / sizes[1]


@pytest.mark.parametrize("count", [7, NUM_NEIGHBOURS, NUM_NEIGHBOURS + 1, 60])
def test_space_agreement_equals_a_plain_loop(count: int) -> None:
    features, labels = draw_clouds(count, 2, 5)
    distances = [[cosine_distance(a, b) for b in features] for a in features]
    expected = reference_agreement(distances, labels, NUM_NEIGHBOURS)
    assert space_agreement(features, labels) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("count", [7, NUM_NEIGHBOURS, NUM_NEIGHBOURS + 1, 60])
def test_plane_agreement_equals_a_plain_loop(count: int) -> None:
    features, labels = draw_clouds(count, 2, 5)
    points = features[:, :2]
    distances = [[math.dist(a, b) for b in points.tolist()] for a in points.tolist()]
    expected = reference_agreement(distances, labels, NUM_NEIGHBOURS)
    assert plane_agreement(points, labels) == pytest.approx(expected, abs=1e-9)


def test_space_agreement_counts_no_sample_as_its_own_neighbour() -> None:
    """30 samples just the same, all of other classes: none agrees with any other."""
    features = np.ones((30, 4), np.float32)
    assert space_agreement(features, np.arange(30)) == 0
    assert plane_agreement(features[:, :2], np.arange(30)) == 0


def test_agreement_of_a_single_sample_is_refused() -> None:
    for agreement in (space_agreement, plane_agreement):
        with pytest.raises(ValueError, match="no neighbours"):
            agreement(np.ones((1, 2), np.float32), np.zeros(1, np.int64))


def test_chance_agreement_equals_that_of_all_pairs() -> None:
    _, labels = draw_clouds(40, 0, 6)
    pairs = [(a, b) for a in range(40) for b in range(40) if a != b]
    expected = 100 * sum(int(labels[a] == labels[b]) for a, b in pairs) / len(pairs)
    assert chance_agreement(labels) == pytest.approx(expected)


def test_chance_agreement_is_near_what_random_features_have() -> None:
    generator = np.random.default_rng(0)
    features = generator.standard_normal((1000, 20)).astype(np.float32)
    labels = generator.integers(0, 4, 1000)
    # 10,000 neighbours, p = 1/4: a standard error of 0.4 points, if they were independent
    assert space_agreement(features, labels) == pytest.approx(chance_agreement(labels), abs=2)

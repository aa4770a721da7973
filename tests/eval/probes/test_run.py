"""Probes on data whose answer is known."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.config.eval import EvalConfig
from pipeline.eval.numbers import accuracy_rows
from pipeline.eval.probes.linear_probe import fit_linear_probe
from pipeline.eval.probes.probe import ProbeJob, list_jobs, run_job
from pipeline.eval.representation import Representation
from pipeline.measures.knn import knn_classify, nearest
from pipeline.student.vectors import Vectors
from tests.support.ledger_numbers import measured

NUM_CLASSES = 4


def draw_classes(
    count: int, separation: float, seed: int, num_dims: int = 8
) -> tuple[np.ndarray, np.ndarray]:
    """Gaussian clouds around one centre per class, off centre and on an odd scale."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, NUM_CLASSES, count)
    centres = np.eye(NUM_CLASSES, num_dims) * separation
    samples = centres[labels] + generator.standard_normal((count, num_dims))
    return (samples * 0.01 + 3).astype(np.float32), labels


def shuffled(labels: np.ndarray) -> np.ndarray:
    return np.random.default_rng(9).permutation(labels)


def reference_knn(
    train: np.ndarray, labels: np.ndarray, test: np.ndarray, k: int, temperature: float
) -> list[int]:
    """Wu et al. 2018, section 3.4, one query at a time in float64."""
    predictions = []
    for query in test.astype(np.float64):
        cosines = [
            (
                sum(a * b for a, b in zip(query, key, strict=True))
                / math.sqrt(sum(a * a for a in query))
                / math.sqrt(sum(b * b for b in key)),
                label,
            )
            for key, label in zip(train.astype(np.float64), labels, strict=True)
        ]
        votes: dict[int, float] = {}
        for cosine, label in sorted(cosines, reverse=True)[:k]:
            votes[int(label)] = votes.get(int(label), 0.0) + math.exp(cosine / temperature)
        predictions.append(max(votes, key=lambda label: votes[label]))
    return predictions


@pytest.mark.parametrize(("k", "temperature"), [(1, 0.1), (7, 0.1), (7, 0.02), (60, 0.5)])
def test_knn_classify_overlapping_clouds_equals_the_reference(k: int, temperature: float) -> None:
    generator = np.random.default_rng(0)
    train = generator.standard_normal((60, 5)).astype(np.float32) * 3
    labels = generator.integers(0, NUM_CLASSES, 60)
    test = generator.standard_normal((40, 5)).astype(np.float32)
    found = knn_classify(train, labels, test, k=k, temperature=temperature)
    assert found.tolist() == reference_knn(train, labels, test, k, temperature)


def test_knn_classify_more_neighbours_than_samples_uses_all() -> None:
    train, labels = draw_classes(10, 3, 0)
    test, _ = draw_classes(6, 3, 1)
    found = knn_classify(train, labels, test, k=200, temperature=0.1)
    assert found.tolist() == reference_knn(train, labels, test, 10, 0.1)


def test_knn_classify_low_temperature_and_large_cosines_do_not_overflow() -> None:
    train = np.eye(3, dtype=np.float32)
    found = knn_classify(train, np.arange(3), train, k=3, temperature=1e-3)
    assert found.tolist() == [0, 1, 2]


def test_knn_classify_a_zero_representation_is_classified_without_a_warning() -> None:
    train, labels = draw_classes(20, 3, 0)
    found = knn_classify(train, labels, np.zeros((2, 8), np.float32), k=5, temperature=0.1)
    assert set(found) <= set(range(NUM_CLASSES))


def test_nearest_returns_cosines_in_falling_order_with_their_indices() -> None:
    keys, _ = draw_classes(30, 1, 0)
    queries, _ = draw_classes(5, 1, 1)
    keys, queries = keys - 3, queries - 3
    similarities, indices = nearest(queries, keys, 4)
    cosines = (queries / np.linalg.norm(queries, axis=1, keepdims=True)) @ (
        keys / np.linalg.norm(keys, axis=1, keepdims=True)
    ).T
    expected = np.argsort(-cosines, axis=1)[:, :4]
    np.testing.assert_array_equal(indices, expected)
    np.testing.assert_allclose(
        similarities, np.take_along_axis(cosines, expected, 1), rtol=0, atol=1e-5
    )


def accuracy(predicted: np.ndarray, labels: np.ndarray) -> float:
    return 100 * float(np.mean(predicted == labels))


def test_linear_probe_separable_classes_is_nearly_perfect() -> None:
    train, labels = draw_classes(200, 12, 0)
    test, test_labels = draw_classes(200, 12, 1)
    assert (
        accuracy(
            fit_linear_probe(Vectors([train]), labels, seed=0).predict(Vectors([test])), test_labels
        )
        >= 99
    )


def test_linear_probe_shuffled_labels_is_near_chance() -> None:
    train, labels = draw_classes(200, 12, 0)
    test, test_labels = draw_classes(400, 12, 1)
    found = accuracy(
        fit_linear_probe(Vectors([train]), shuffled(labels), seed=0).predict(Vectors([test])),
        test_labels,
    )
    # labels say nothing, but the four clouds may each get one wrong name by luck
    assert found < 60


def test_linear_probe_uninformative_representation_is_near_chance() -> None:
    train, labels = draw_classes(300, 0, 0)
    test, test_labels = draw_classes(1000, 0, 1)
    found = accuracy(
        fit_linear_probe(Vectors([train]), labels, seed=0).predict(Vectors([test])), test_labels
    )
    # standard error of 1000 coin throws with p = 1/4 is 1.4 points; the fit itself is noise
    assert abs(found - 25) < 6


@pytest.mark.slow
def test_linear_probe_does_not_depend_on_scale_or_offset() -> None:
    train, labels = draw_classes(120, 2, 0)
    test, _ = draw_classes(200, 2, 1)
    plain = fit_linear_probe(Vectors([train]), labels, seed=0).predict(Vectors([test]))
    moved = fit_linear_probe(Vectors([train * 50 - 7]), labels, seed=0).predict(
        Vectors([test * 50 - 7])
    )
    assert np.mean(plain == moved) > 0.98  # float32 offsets cost a few digits


def test_linear_probe_one_label_per_class_still_fits() -> None:
    train, labels = np.eye(4, dtype=np.float32), np.arange(4)
    assert fit_linear_probe(Vectors([train]), labels, seed=0).predict(
        Vectors([train])
    ).tolist() == [0, 1, 2, 3]


def test_linear_probe_same_seed_gives_the_same_predictions() -> None:
    train, labels = draw_classes(80, 1, 0)
    test, _ = draw_classes(80, 1, 1)
    first, second = (
        fit_linear_probe(Vectors([train]), labels, seed=4).predict(Vectors([test]))
        for _ in range(2)
    )
    np.testing.assert_array_equal(first, second)


def test_linear_probe_constant_representation_predicts_without_a_warning() -> None:
    labels = np.array([0, 0, 0, 1, 1, 1])
    found = fit_linear_probe(Vectors([np.ones((6, 3), np.float32)]), labels, seed=0)
    assert found.predict(Vectors([np.ones((2, 3), np.float32)])).shape == (2,)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("num_labels", "choice"),
    [
        (100, "in 5-fold cross-validation"),
        (12_499, "in 5-fold cross-validation"),
        (12_500, "on a fifth of the given labels"),
    ],
)
def test_linear_probe_is_cross_validated_where_a_fifth_is_less_than_2500_labels(
    num_labels: int, choice: str
) -> None:
    train, labels = draw_classes(num_labels, 12, 0, num_dims=4)
    probe = fit_linear_probe(Vectors([train]), labels, seed=0)
    assert f"by accuracy {choice}, the middle of equals" in probe.protocol
    assert accuracy(probe.predict(Vectors([train])), labels) > 99


@pytest.mark.slow
def test_linear_probe_of_all_labels_equals_that_of_as_many_called_few() -> None:
    """Ten labels per class are chosen from as few, whatever their row is called."""
    train, _ = draw_classes(40, 1.5, 0)
    labels = np.repeat(np.arange(4), 10)
    test, test_labels = draw_classes(200, 1.5, 1)
    representation = Representation(
        "student", Vectors([train]), labels, np.arange(40), Vectors([test]), test_labels
    )
    whole, few = (
        run_job(ProbeJob("linear", name, 3), representation, EvalConfig(), torch.device("cpu"))
        for name in ("all", "10_per_class")
    )
    np.testing.assert_array_equal(whole.predictions, few.predictions)
    assert whole.top1.protocol == few.top1.protocol


def run(separation: float, shuffle: bool = False, **changes: Any) -> list[dict[str, Any]]:
    train, labels = draw_classes(160, separation, 0)
    test, test_labels = draw_classes(160, separation, 1)
    # kNN takes cosines: centre the clouds, which the linear probe does by itself
    train, test = train - 3, test - 3
    labels = shuffled(labels) if shuffle else labels
    rows = np.arange(len(train))
    representation = Representation(
        "student", Vectors([train]), labels, rows, Vectors([test]), test_labels
    )
    config = EvalConfig(knn_k=5, few_labels=("5_per_class",), **changes)
    cpu = torch.device("cpu")
    scores = [run_job(job, representation, config, cpu) for job in list_jobs(config)]
    return accuracy_rows([measured(score.top1) for score in scores], {})


@pytest.mark.slow
def test_run_probes_rows_name_probe_labels_and_seeds() -> None:
    rows = run(12, seeds=(4, 7))
    assert [(row["probe"], row["labels"]) for row in rows] == [
        ("linear", "all"),
        ("knn", "all"),
        ("linear", "5_per_class"),
        ("knn", "5_per_class"),
    ]
    assert {row["representation"] for row in rows} == {"student"}
    assert [row["seeds"] for row in rows] == [[4], [4], [4, 7], [4, 7]]
    assert [row["top1_std"] for row in rows[:2]] == [0, 0]
    assert "k = 5" in rows[1]["protocol"]
    assert "logistic" in rows[0]["protocol"]


@pytest.mark.slow
def test_run_probes_separable_classes_score_near_100() -> None:
    assert min(row["top1_mean"] for row in run(12)) >= 97


@pytest.mark.slow
def test_run_probes_shuffled_labels_score_near_chance() -> None:
    for row in run(0, shuffle=True):
        assert abs(row["top1_mean"] - 25) < 12


@pytest.mark.slow
def test_run_probes_mean_and_deviation_are_over_the_seeds_alone() -> None:
    """Each seed's score is what it is when run by itself."""
    seeds = (0, 1, 2)
    alone = [run(2, seeds=(seed,))[2]["top1_mean"] for seed in seeds]
    row = run(2, seeds=seeds)[2]
    assert row["top1_mean"] == pytest.approx(np.mean(alone), abs=2e-3)
    assert row["top1_std"] == pytest.approx(np.std(alone, ddof=1), abs=2e-3)

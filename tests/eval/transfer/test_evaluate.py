"""From files on disk to the numbers of the transfer table, on data whose answer is known."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_limits
from torch import nn

from pipeline.eval.logistic.choose_penalty import GRID as WHOLE_GRID
from pipeline.eval.logistic.regression import LogisticFit
from pipeline.eval.transfer.datasets import open_transfer_set
from pipeline.eval.transfer.evaluate import TransferResult, evaluate_transfer, fit_probe
from pipeline.eval.transfer.features import (
    LabelledRepresentations,
    Loading,
    TransferFeatures,
    extract_features,
)
from pipeline.eval.transfer.sets import TRANSFER_SETS, Metric
from tests.support.transfer_sets import NUM_CLASSES, WRITE, write_set

CPU = torch.device("cpu")
LOADING = Loading(CPU)
GRID = WHOLE_GRID[::11]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Problems this small gain nothing from more threads, and lose much on a busy machine."""
    with threadpool_limits(1):
        yield


def random_backbone() -> nn.Module:
    """Means over 4 x 5 cells, mixed at random."""
    mix = nn.Linear(60, 64)
    with torch.no_grad():
        mix.weight.copy_(torch.randn(64, 60, generator=torch.Generator().manual_seed(0)) / 8)
        mix.bias.zero_()
    return nn.Sequential(nn.AdaptiveAvgPool2d((4, 5)), nn.Flatten(), mix)


def shuffled(features: TransferFeatures) -> TransferFeatures:
    """The same with labels that say nothing, in every split."""
    generator = np.random.default_rng(3)

    def shuffle(part: LabelledRepresentations) -> LabelledRepresentations:
        return replace(part, labels=generator.permutation(part.labels))

    return replace(
        features,
        train=shuffle(features.train),
        val=shuffle(features.val),
        test=shuffle(features.test),
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", WRITE)
def test_planted_classes_score_high_and_shuffled_ones_near_chance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    write_set(monkeypatch, tmp_path, name)
    images = open_transfer_set(name, tmp_path)
    features = extract_features(random_backbone(), images, LOADING)
    found = evaluate_transfer(features, CPU, GRID)
    assert found.score > 97
    assert (found.dataset, found.metric) == (name, TRANSFER_SETS[name].metric)
    assert [found.num_train, found.num_val, found.num_test] == list(map(len, images.splits))
    assert not found.is_published
    assert found.split_digest == images.digest
    assert found.inverse_penalty in GRID
    # the share of positives for mAP, some more by luck with 60 images; else 1 in 4 with a standard
    # error of 7 points on 40 images
    chance = 30 if name == "voc2007" else 100 / NUM_CLASSES
    assert abs(evaluate_transfer(shuffled(features), CPU, GRID).score - chance) < 20


def test_as_many_images_as_published_are_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    features = clouds(20)
    listed = replace(TRANSFER_SETS["dtd"], num_images=60)
    assert not evaluate_transfer(features, CPU, GRID).is_published
    monkeypatch.setitem(TRANSFER_SETS, "dtd", listed)
    assert evaluate_transfer(features, CPU, GRID).is_published


def clouds(count: int, num_classes: int = 3, spread: float = 1.0) -> TransferFeatures:
    """Overlapping Gaussian clouds, one a class, in each split."""

    def draw(seed: int) -> LabelledRepresentations:
        generator = np.random.default_rng(seed)
        labels = np.arange(count) % num_classes
        points = 2 * np.eye(num_classes, 6)[labels] + spread * generator.normal(size=(count, 6))
        return LabelledRepresentations(points.astype(np.float32), labels)

    return TransferFeatures("dtd", "0" * 64, draw(0), draw(1), draw(2))


def fit(features: TransferFeatures, metric: Metric, grid: tuple[float, ...]) -> LogisticFit:
    return fit_probe(features, metric, CPU, grid)


def logits(found: LogisticFit, points: np.ndarray) -> np.ndarray:
    scores: np.ndarray = found.scores(torch.from_numpy(points)).numpy()
    return scores


@pytest.mark.parametrize("inverse_penalty", [0.01, 1.0, 30.0])
def test_solver_minimises_the_penalised_loss_of_train_and_validation(
    inverse_penalty: float,
) -> None:
    """Eq. of L2 multinomial regression: no step from the solution lowers the objective."""
    features = clouds(60)
    model = fit(features, "top-1", (inverse_penalty,))
    points = np.concatenate([features.train.representations, features.val.representations])
    inputs = torch.from_numpy(points).double()
    labels = torch.from_numpy(np.concatenate([features.train.labels, features.val.labels]))
    basis = np.concatenate([np.zeros((1, 6)), np.eye(6)])
    at_basis = model.scores(torch.from_numpy(basis))
    bias = at_basis[0].clone().requires_grad_()
    weights = (at_basis[1:] - at_basis[0]).clone().requires_grad_()
    losses = nn.functional.cross_entropy(inputs @ weights + bias, labels, reduction="sum")
    objective = inverse_penalty * losses + weights.square().sum() / 2
    objective.backward()
    for variable in (weights, bias):
        assert variable.grad is not None
        # of single images the gradients are of order C x 120
        assert variable.grad.abs().max() < 1e-3 * inverse_penalty * 120


def test_solver_takes_the_penalty_that_is_best_on_validation() -> None:
    features = clouds(30, spread=1.5)
    grid = (1e-5, 1e-2, 1.0, 1e3)
    found = fit(features, "top-1", grid).C
    accuracies = []
    for inverse_penalty in grid:
        alone = replace(features, val=features.train)
        model = fit_on_train(alone, inverse_penalty)
        predicted = logits(model, features.val.representations).argmax(1)
        accuracies.append(float(np.mean(predicted == features.val.labels)))
    assert len(set(accuracies)) > 1
    best = [c for c, value in zip(grid, accuracies, strict=True) if value == max(accuracies)]
    assert found == max(best)


def fit_on_train(features: TransferFeatures, inverse_penalty: float) -> LogisticFit:
    """Of the train images alone: each twice at half the weight."""
    return fit(features, "top-1", (inverse_penalty / 2,))


def test_solver_takes_the_penalty_by_the_metric_it_was_given() -> None:
    """Validation, where a strong penalty calls all images the first class, 90 of 100 rightly; a
    weak one splits at 0, wrong for 20 of the first class, but right for all 10 of the second.
    """

    def points(*groups: tuple[int, float, int]) -> LabelledRepresentations:
        counts, places, labels = zip(*groups, strict=True)
        vectors = np.repeat(places, counts).astype(np.float32)[:, None]
        return LabelledRepresentations(vectors, np.repeat(labels, counts))

    train = points((60, -1, 0), (40, 1, 1))
    val = points((70, -1, 0), (20, 1, 0), (10, 1, 1))
    features = TransferFeatures("dtd", "0" * 64, train, val, val)
    grid = (1e-5, 10.0)
    assert fit(features, "mean per class", grid).C == 10.0
    assert fit(features, "top-1", grid).C == 1e-5


def test_solver_two_classes_have_two_columns() -> None:
    features = clouds(40, num_classes=2)
    found = logits(fit(features, "top-1", (1.0,)), features.test.representations)
    assert found.shape == (40, 2)
    assert np.mean(found.argmax(1) == features.test.labels) > 0.8


@pytest.mark.parametrize("labels", [(0, 2), (0, 2, 3)])
def test_solver_label_that_nothing_has_is_never_predicted(labels: tuple[int, ...]) -> None:
    features = clouds(60, num_classes=len(labels))
    parts = {
        split: replace(part, labels=np.array(labels)[part.labels])
        for split, part in (("train", features.train), ("val", features.val))
    }
    model = fit(replace(features, **parts), "top-1", (1.0,))
    found = logits(model, features.test.representations)
    expected = np.array(labels)[features.test.labels]
    assert found.shape == (60, max(labels) + 1)
    assert np.isneginf(found[:, 1]).all()
    assert np.mean(found.argmax(1) == expected) > 0.7


def test_solver_labels_that_only_validation_has_are_learnt_from_it() -> None:
    features = clouds(60)
    rows = features.train.labels != 1
    train = LabelledRepresentations(
        features.train.representations[rows], features.train.labels[rows]
    )
    model = fit(replace(features, train=train), "top-1", (1.0, 10.0))
    predicted = logits(model, features.test.representations).argmax(1)
    assert np.mean(predicted[features.test.labels == 1] == 1) > 0.6


def test_result_says_what_was_done() -> None:
    found = evaluate_transfer(clouds(60), CPU, GRID)
    assert isinstance(found, TransferResult)
    for part in ("224 px", "bicubic", "not standardised", "logistic", "Ericsson"):
        assert part in found.protocol

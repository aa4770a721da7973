"""The choice of C, against scikit-learn's by the same rule."""

from __future__ import annotations

from functools import partial
from typing import get_args

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from pipeline.eval.logistic.choose_penalty import GRID, Labelled, choose_and_fit
from pipeline.eval.transfer.scores import score
from pipeline.eval.transfer.sets import Metric
from tests.eval.logistic.test_regression import CPU, draw_clouds


def percent(metric: Metric, scores: torch.Tensor, labels: torch.Tensor) -> float:
    wanted = labels.numpy().astype(bool) if labels.ndim == 2 else labels.numpy()
    return score(metric, wanted, scores.numpy())


top1, mean_per_class, eleven_point_map = (partial(percent, metric) for metric in get_args(Metric))


def draw_split(separation: float = 1.0, num_dims: int = 30) -> tuple[Labelled, Labelled]:
    """Few samples of many dimensions: the penalty matters."""
    sets = [
        draw_clouds(count, 3, separation=separation, seed=seed, num_dims=num_dims)
        for count, seed in ((60, 0), (200, 1))
    ]
    train, validation = (Labelled(*one) for one in sets)
    return train, validation


def test_grid_is_the_protocols_from_the_weakest_penalty() -> None:
    assert len(GRID) == 45
    assert GRID[0] == pytest.approx(1e6)
    assert GRID[-1] == pytest.approx(1e-5)
    assert list(GRID) == sorted(GRID, reverse=True)
    penalties = torch.logspace(-6, 5, 45, dtype=torch.float64)
    np.testing.assert_allclose(GRID, 1 / penalties.numpy(), rtol=1e-9)


def test_choice_and_refit_are_those_of_scikit_learn() -> None:
    train, validation = draw_split(separation=0.3)
    grid = GRID[10:40:3]

    choice = choose_and_fit(train, validation, top1, num_classes=3, device=CPU, grid=grid)

    percents = []
    for C in grid:
        model = LogisticRegression(C=C, tol=1e-10, solver="newton-cholesky")
        model.fit(train.features.double().numpy(), train.labels.numpy())
        score = model.score(validation.features.double().numpy(), validation.labels.numpy())
        percents.append(100 * score)
    np.testing.assert_allclose(choice.validation, percents, rtol=0, atol=1e-9)
    assert len(set(percents)) > 3
    assert grid[int(np.argmax(percents))] == choice.fit.C
    assert choice.fit.is_converged
    both = torch.cat([train.features, validation.features]).double().numpy()
    labels = torch.cat([train.labels, validation.labels]).numpy()
    model = LogisticRegression(C=choice.fit.C, tol=1e-10, solver="newton-cholesky").fit(
        both, labels
    )
    losses = -model.predict_log_proba(both)[np.arange(len(labels)), labels]
    expected = losses.mean() + np.square(model.coef_).sum() / (2 * choice.fit.C * len(labels))
    # the tolerance is 1e-7 by an estimate that is too small here, and the solver starts nearby
    assert choice.fit.objective == pytest.approx(expected, rel=1e-4)
    ours = choice.fit.predict(torch.from_numpy(both)).numpy()
    assert (ours == model.predict(both)).mean() > 0.99


def test_choice_of_equals_is_the_first_of_the_grid() -> None:
    train, validation = draw_split(separation=40, num_dims=6)
    choice = choose_and_fit(
        train, validation, top1, num_classes=3, device=CPU, grid=[5.0, 50.0, 1.0]
    )
    assert choice.validation == (100, 100, 100)
    assert choice.fit.C == 5.0


@pytest.mark.parametrize("metric", [top1, mean_per_class])
def test_choice_without_a_class_in_validation_still_fits_it_on_both(metric: object) -> None:
    train, validation = draw_split(separation=40, num_dims=6)
    without = validation.take(np.flatnonzero(validation.labels.numpy() != 2))

    choice = choose_and_fit(train, without, metric, num_classes=3, device=CPU, grid=[1.0, 10.0])  # type: ignore[arg-type]

    assert choice.validation == (100, 100)
    assert top1(choice.fit.scores(validation.features), validation.labels) == 100


def test_choice_by_map_fits_every_class_against_the_rest() -> None:
    train, validation = (
        Labelled(one.features, torch.nn.functional.one_hot(one.labels, 3))
        for one in draw_split(separation=3)
    )
    choice = choose_and_fit(
        train, validation, eleven_point_map, num_classes=3, device=CPU, grid=[1e-4, 1.0]
    )
    assert choice.fit.weight.shape == (3, 30)
    assert max(choice.validation) > 80

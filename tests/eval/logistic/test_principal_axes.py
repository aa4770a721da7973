"""Axes from rows that are read once, against those of the rows in memory."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipeline.eval.logistic import principal_axes
from pipeline.eval.logistic.principal_axes import PrincipalAxes
from tests.eval.logistic.test_regression import draw_clouds


def covariance(axes: PrincipalAxes) -> torch.Tensor:
    return (axes.axes * axes.variances) @ axes.axes.T


def test_axes_of_parts_are_those_of_all_rows_far_from_zero() -> None:
    features = draw_clouds(300, 3)[0].float() + 1000
    whole = PrincipalAxes.of(features)
    parts = PrincipalAxes.of_parts(features.split(70))
    torch.testing.assert_close(parts.mean, whole.mean, rtol=1e-12, atol=0)
    torch.testing.assert_close(covariance(parts), covariance(whole), rtol=1e-8, atol=1e-10)


def test_axes_of_parts_leave_out_what_does_not_vary() -> None:
    features = draw_clouds(300, 3)[0].float()
    more = torch.cat([features, features[:, :2], torch.full((300, 1), 7.0)], 1)
    assert len(PrincipalAxes.of_parts(more.split(90)).variances) == 6


def test_axes_of_parts_refuse_what_is_not_finite() -> None:
    features = draw_clouds(300, 3)[0]
    features[200, 1] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        PrincipalAxes.of_parts(features.split(90))


def test_mean_is_the_same_to_the_last_bit_however_few_columns_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    features = torch.randn(5000, 100, generator=torch.Generator().manual_seed(0)) + 3
    monkeypatch.setattr(principal_axes, "_MEAN_NUMBERS", 1)
    assert torch.equal(PrincipalAxes.of(features).mean, features.mean(0, dtype=torch.float64))

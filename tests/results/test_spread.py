"""Means, deviations, intervals and differences over seeds, against scipy's and plain loops."""

from __future__ import annotations

import math

import pytest
from scipy import stats  # type: ignore[import-untyped]

from pipeline.results.spread import subtract, summarise

FIRST = {0: 66.1, 1: 63.2, 2: 69.4, 3: 65.0}
SECOND = {0: 68.0, 1: 66.9, 2: 70.3, 3: 69.9}
OTHER = {5: 71.0, 6: 64.0, 7: 80.5}


def test_summary_is_mean_deviation_and_t_interval() -> None:
    values = list(FIRST.values())
    mean = math.fsum(values) / 4
    std = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / 3)
    found = summarise(values)
    assert (found.mean, found.std) == (pytest.approx(mean), pytest.approx(std))
    assert found.num_values == 4
    low, high = stats.t.interval(0.95, 3, loc=mean, scale=std / 2)
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))


def test_summary_of_two_values_uses_the_tables_quantile() -> None:
    found = summarise([1.0, 3.0])  # t of 0.975 with one degree of freedom: 12.7062
    assert found.high == pytest.approx(2 + 12.7062, abs=1e-4)


def test_summary_of_one_value_has_no_spread() -> None:
    found = summarise([5.0])
    assert (found.mean, found.std, found.low, found.high) == (5.0, None, None, None)


def test_difference_of_the_same_seeds_is_paired() -> None:
    found = subtract(FIRST, dict(reversed(SECOND.items())))  # by seed, whatever the order
    expected = stats.ttest_rel(list(SECOND.values()), list(FIRST.values())).confidence_interval()
    assert found.mean == pytest.approx(sum(SECOND.values()) / 4 - sum(FIRST.values()) / 4)
    assert (found.low, found.high) == (pytest.approx(expected.low), pytest.approx(expected.high))
    assert "paired" in found.how


def test_difference_of_other_seeds_is_welchs() -> None:
    values = [list(of.values()) for of in (OTHER, FIRST)]
    expected = stats.ttest_ind(*values, equal_var=False).confidence_interval()
    found = subtract(FIRST, OTHER)
    assert (found.low, found.high) == (pytest.approx(expected.low), pytest.approx(expected.high))
    assert found.how == "Welch, n = 4 and 3"


@pytest.mark.parametrize(
    ("first", "second"), [({0: 1.0}, {0: 3.0}), ({0: 1.0}, {1: 3.0}), ({0: 1.0}, {1: 2.0, 2: 4.0})]
)
def test_difference_with_one_value_has_no_interval(
    first: dict[int, float], second: dict[int, float]
) -> None:
    found = subtract(first, second)
    assert (found.mean, found.low, found.high) == (2.0, None, None)
    assert "no interval" in found.how


@pytest.mark.parametrize("second", [{2: 3.0, 3: 3.0}, {0: 3.0, 1: 3.0}])
def test_difference_without_any_deviation_claims_no_certainty(second: dict[int, float]) -> None:
    found = subtract({0: 1.0, 1: 1.0}, second)
    assert (found.low, found.mean, found.high) == (None, 2.0, None)
    assert "equal" in found.how
    assert "no interval" in found.how


def test_summary_of_equal_values_has_a_deviation_and_no_interval() -> None:
    found = summarise([97.5, 97.5])
    assert (found.mean, found.std, found.low, found.high) == (97.5, 0.0, None, None)

"""Means, deviations and intervals over seeds.

Intervals are of the mean, at 95 %, by Student's t: they take values of different seeds as
independent draws of a normal distribution. Of one value there is neither deviation nor interval,
and of values that are all equal no interval: it would claim certainty. Intervals are SciPy's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Summary:
    """Mean of n values, their standard deviation (ddof 1), and the interval of the mean."""

    mean: float
    std: float | None
    num_values: int
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Difference:
    """Mean of the second less mean of the first, and its interval."""

    mean: float
    low: float | None
    high: float | None
    how: str
    """How the interval was made."""


def summarise(values: Sequence[float]) -> Summary:
    """Of at least one value."""
    mean = fmean(values)
    if len(values) < 2:
        return Summary(mean, None, 1, None, None)
    std = stdev(values)
    if std == 0:
        return Summary(mean, std, len(values), None, None)
    from scipy import stats

    count = len(values)
    low, high = stats.t.interval(CONFIDENCE, count - 1, loc=mean, scale=std / count**0.5)
    return Summary(mean, std, count, float(low), float(high))


def subtract(first: Mapping[int, float], second: Mapping[int, float]) -> Difference:
    """Second less first, both seed -> value: paired where the seeds are the same, else Welch's,
    which assumes neither equal variances nor equal numbers.
    """
    if first.keys() == second.keys():
        found = summarise([second[seed] - first[seed] for seed in first])
        paired = f"paired by seed, n = {found.num_values}"
        how = paired if found.std is not None else "one seed: no interval"
        if found.std == 0:
            how = f"{paired}, all equal: no interval"
        return Difference(found.mean, found.low, found.high, how)
    sizes = f"n = {len(first)} and {len(second)}"
    mean = fmean(second.values()) - fmean(first.values())
    if min(len(first), len(second)) < 2:
        return Difference(mean, None, None, f"{sizes}: no interval")
    if len({*first.values()}) == len({*second.values()}) == 1:
        return Difference(mean, None, None, f"Welch, {sizes}, equal on either side: no interval")
    from scipy import stats

    found_test = stats.ttest_ind([*second.values()], [*first.values()], equal_var=False)
    interval = found_test.confidence_interval(CONFIDENCE)
    return Difference(mean, float(interval.low), float(interval.high), f"Welch, {sizes}")

"""Means, deviations and intervals over seeds.

Intervals are of the mean, at 95 %, by Student's t: they take values of different seeds as
independent draws of a normal distribution. Of one value there is neither deviation nor interval.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev, variance

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
    half = _quantile(len(values) - 1) * std / math.sqrt(len(values))
    return Summary(mean, std, len(values), mean - half, mean + half)


def subtract(first: Mapping[int, float], second: Mapping[int, float]) -> Difference:
    """Second less first, both seed -> value: paired where the seeds are the same, else Welch's,
    which assumes neither equal variances nor equal numbers.
    """
    if first.keys() == second.keys():
        found = summarise([second[seed] - first[seed] for seed in first])
        paired = f"paired by seed, n = {found.num_values}"
        how = paired if found.std is not None else "one seed: no interval"
        return Difference(found.mean, found.low, found.high, how)
    sizes = (len(first), len(second))
    mean = fmean(second.values()) - fmean(first.values())
    if min(sizes) < 2:
        return Difference(mean, None, None, f"n = {sizes[0]} and {sizes[1]}: no interval")
    squares = [variance(values.values()) / len(values) for values in (first, second)]
    total = sum(squares)
    half = 0.0
    if total > 0:  # Welch-Satterthwaite
        shares = [(s / total) ** 2 / (n - 1) for s, n in zip(squares, sizes, strict=True)]
        half = _quantile(1 / sum(shares)) * math.sqrt(total)
    return Difference(mean, mean - half, mean + half, f"Welch, n = {sizes[0]} and {sizes[1]}")


def _quantile(degrees: float) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(degrees, (1 + CONFIDENCE) / 2))

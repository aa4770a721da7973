"""Accuracy against the number of real images, and what the teacher adds, SVG data URI."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

from pipeline.report.figures import STYLE, svg
from pipeline.results.spread import Difference, summarise

_STYLES = (
    ("#3b6fb6", "o-"),
    ("#4a9c6d", "s-"),
    ("#8a6fb0", "^-"),
    ("#c8553d", "D-"),
    ("#777777", "--"),
    ("#aaaaaa", ":"),
)
_APART = 1.05
"""Factor between the places of two lines' points, that their bars do not hide one another."""


def worth_plot(
    accuracies: Mapping[str, Mapping[int, Mapping[int, float]]],
    differences: Mapping[str, Mapping[int, Difference | None]],
    measure: str,
) -> str:
    """Two panels over the number of real images.

    Args:
        accuracies: line -> number of images -> seed -> top-1 in percent; six at most.
        differences: line -> number of images -> points, with their interval.
        measure: what the accuracies are.
    """
    figure = Figure(figsize=(8.4, 4), layout="constrained")
    with mpl.rc_context(STYLE):
        left, right = figure.subplots(1, 2, width_ratios=(3, 2))
        for place, (line, points) in enumerate(accuracies.items()):
            found = {n: list(values.values()) for n, values in points.items() if values}
            colour, marks = _STYLES[place]
            left.errorbar(
                _places(list(found), place - len(accuracies) / 2),
                [fmean(values) for values in found.values()],
                yerr=[summarise(values).std or 0.0 for values in found.values()],
                fmt=marks, color=colour, markersize=4, capsize=2, lw=1.3, label=line,
            )  # fmt: skip
        for place, (line, found_of) in enumerate(differences.items()):
            known = {n: one for n, one in found_of.items() if one is not None}
            right.errorbar(
                _places(list(known), place - len(differences) / 2),
                [one.mean for one in known.values()],
                yerr=[_half(one) for one in known.values()],
                fmt="o-", color=_STYLES[2 * place][0], markersize=4, capsize=3, lw=1.3, label=line,
            )  # fmt: skip
        right.axhline(0, color="#444444", lw=0.8)
        left.set(xlabel="real images", ylabel=measure)
        right.set(xlabel="real images", ylabel="difference, points, 95 % interval")
        numbers = sorted({n for points in accuracies.values() for n in points})
        for axis in (left, right):
            axis.set_xscale("log")
            axis.xaxis.set_major_locator(FixedLocator(numbers))
            axis.xaxis.set_major_formatter(FuncFormatter(lambda n, _: f"{n:,.0f}"))
            axis.xaxis.set_minor_locator(NullLocator())
            axis.xaxis.set_minor_formatter(NullFormatter())
        for axis, columns in ((left, 2), (right, 1)):  # above: within, it would hide a line
            place_above = {"loc": "lower center", "bbox_to_anchor": (0.5, 1)}
            axis.legend(fontsize=8, ncols=columns, **place_above)
        return svg(figure)


def _places(numbers: Sequence[int], shift: float) -> list[float]:
    return [n * _APART**shift for n in numbers]


def _half(one: Difference) -> float:
    return 0.0 if one.low is None or one.high is None else (one.high - one.low) / 2

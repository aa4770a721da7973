"""The sweeps' plots, SVG data URIs: seeds as small dots, mean and standard deviation over them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogFormatter, NullFormatter

from pipeline.report.figures import STYLE, svg
from pipeline.results.spread import summarise

PAPER_CURVE = ((87.51, 62.08), (50.21, 60.52), (41.71, 62.18), (20.78, 62.91), (11.03, 64.65),
               (7.09, 66.56), (5.22, 66.68), (4.43, 67.63), (4.13, 67.86))  # fmt: skip
"""FID of the generator, top-1 of the student in percent: CIFAR-100, Yang et al. 2022, Fig. 4."""
_OURS, _THEIRS, _ONLINE = "#3b6fb6", "#c8553d", "#4a9c6d"


def quality_plot(points: Sequence[tuple[float, Sequence[float]]], measure: str) -> str:
    """Distance of each teacher -> accuracies of its students, and the paper's curve in a panel of
    its own.

    Args:
        points: (Fréchet distance, top-1 of each seed in percent).
        measure: what the accuracies are.
    """
    figure = Figure(figsize=(8.4, 3.2), layout="constrained")
    with mpl.rc_context(STYLE):
        left, right = figure.subplots(1, 2)
        _draw(left, sorted(points))
        left.set(title="ours", xlabel="Fréchet distance (our feature space)", ylabel=measure)
        right.plot(*zip(*PAPER_CURVE, strict=True), "D-", color=_THEIRS, markersize=4)
        right.set(
            title="paper, CIFAR-100", xlabel="FID (Inception)", ylabel="top-1, %, its own probe"
        )
        for axis in (left, right):
            axis.set_xscale("log")
            axis.xaxis.set_major_formatter(LogFormatter())
            axis.xaxis.set_minor_formatter(LogFormatter(minor_thresholds=(2, 0.4)))
        return svg(figure)


def pool_plot(cached: Mapping[int, Sequence[float]], online: Sequence[float], measure: str) -> str:
    """Pool size -> accuracies of its students, and those of online training as a band.

    Args:
        cached: pool size -> top-1 of each seed in percent.
        online: top-1 of each seed in percent; may be empty.
        measure: what the accuracies are.
    """
    figure = Figure(figsize=(8.4, 3.2), layout="constrained")
    with mpl.rc_context(STYLE):
        axis = figure.subplots()
        if online:
            limit = summarise(online)
            std = limit.std or 0.0
            axis.axhspan(limit.mean - std, limit.mean + std, color=_ONLINE, alpha=0.18, lw=0)
            axis.axhline(limit.mean, color=_ONLINE, label="online: rendered for every step")
        _draw(axis, sorted(cached.items()), label="cached pool")
        axis.set_xscale("log")
        axis.set_xticks(sorted(cached))
        axis.xaxis.set_major_formatter(EngFormatter(sep=""))
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.set(xlabel="pool size, samples", ylabel=measure)
        figure.legend(loc="outside upper center", ncols=2)
        return svg(figure)


def _draw(
    axis: Any, points: Sequence[tuple[float, Sequence[float]]], label: str | None = None
) -> None:
    for place, values in points:
        axis.plot([place] * len(values), values, "o", color=_OURS, alpha=0.4, markersize=4)
    axis.errorbar(
        [place for place, _ in points],
        [fmean(values) for _, values in points],
        yerr=[summarise(values).std or 0.0 for _, values in points],
        fmt="o-",
        markersize=5,
        color=_OURS,
        capsize=2,
        label=label,
    )

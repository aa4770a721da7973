"""The report's pictures as data URIs: image grids as PNG, curves and bars as SVG."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator
from PIL import Image

from pipeline.report.results import find_group, list_columns, list_representations
from pipeline.results import wording
from pipeline.results.query import Group
from pipeline.train.monitor.names import ALIGNMENT, KNN_TOP1, PREFIX, UNIFORMITY

Metrics = list[dict[str, float]]
STYLE: Any = {
    "svg.hashsalt": "report",  # ids, and so the page, do not change from one run to the next
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
}
_COLOURS = ("#3b6fb6", "#c8553d", "#4a9c6d", "#8a6fb0")
_LABELS = {
    "synthetic": "student, synthetic views",
    "squeezed": "squeezed teacher features",
    "real": "student, real views",
}
_OBJECTIVES = ("squeeze", "span", "vicreg")
_SEEN = {
    KNN_TOP1: "kNN, top-1, %",
    ALIGNMENT: "alignment of two views",
    UNIFORMITY: "uniformity of all images",
}
_NO_TERMS = ("samples_seen", "loss", "learning_rate", "epoch")


def image_grid(images: np.ndarray, columns: int) -> str:
    """PNG data URI of uint8 images [N, 3, R, R] in rows of `columns`, one pixel apart."""
    num_images, _, side, _ = images.shape
    rows = -(-num_images // columns)
    canvas = np.full((rows * (side + 1) - 1, columns * (side + 1) - 1, 3), 128, np.uint8)
    for index, image in enumerate(images):
        top, left = index // columns * (side + 1), index % columns * (side + 1)
        canvas[top : top + side, left : left + side] = image.transpose(1, 2, 0)
    return png(canvas)


def png(pixels: np.ndarray) -> str:
    """PNG data URI of uint8 [H, W, 3]."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def loss_curves(metrics: Metrics) -> str:
    """Every term of the losses over samples seen, the same terms of two objectives together, SVG
    data URI.
    """
    panels = _panels(list(metrics[-1]) if metrics else [])
    figure = Figure(figsize=(8.4, 2.7), layout="constrained")
    with mpl.rc_context(STYLE):
        axes = figure.subplots(1, len(panels), squeeze=False)[0]
        for axis, (title, lines) in zip(axes, panels.items(), strict=True):
            for colour, (name, label) in zip(_COLOURS[::2], lines, strict=False):
                _draw(axis, _series(metrics, name), color=colour, label=label)
            axis.set(title=title, xlabel="samples seen")
            axis.xaxis.set_major_formatter(EngFormatter(sep=""))
            if len(lines) > 1:
                axis.legend()
        return svg(figure)


def _panels(names: list[str]) -> dict[str, list[tuple[str, str]]]:
    """Title of a panel -> names of the metrics in it, with their labels."""
    panels: dict[str, list[tuple[str, str]]] = {}
    for name in names:
        is_term = not name.startswith(PREFIX) and not name.endswith(("_std", "_effective_rank"))
        if name in _NO_TERMS or not is_term:
            continue
        objective, _, term = name.partition("_")
        if objective not in _OBJECTIVES:
            objective, term = "", name
        panels.setdefault(f"{term} loss", []).append((name, objective))
    return panels or {"loss": [("loss", "")]}


def collapse_curves(metrics: Metrics) -> str:
    """Standard deviation and effective rank of every embedding over samples seen, SVG data URI."""
    names = [n.removesuffix("_std") for n in (metrics[-1] if metrics else {}) if n.endswith("_std")]
    figure = Figure(figsize=(8.4, 2.9), layout="constrained")
    with mpl.rc_context(STYLE):
        left, right = figure.subplots(1, 2)
        for name, colour in zip(names, _COLOURS, strict=False):
            label = _LABELS.get(name, name)
            _draw(left, _series(metrics, f"{name}_std"), color=colour, label=label)
            _draw(right, _series(metrics, f"{name}_effective_rank"), color=colour)
        left.set(
            title="mean standard deviation of a dimension", xlabel="samples seen", ylim=(0, None)
        )
        right.set(title="effective rank", xlabel="samples seen", ylim=(0, None))
        if names:
            left.legend()
        for axis in (left, right):
            axis.xaxis.set_major_formatter(EngFormatter(sep=""))
        return svg(figure)


def monitor_curves(metrics: Metrics) -> str | None:
    """What was seen of the student while it trained, over samples seen, SVG data URI; None of a
    training that was not looked at.
    """
    names = [name for name in _SEEN if any(name in row for row in metrics)]
    if not names:
        return None
    figure = Figure(figsize=(8.4, 2.5), layout="constrained")
    with mpl.rc_context(STYLE):
        axes = figure.subplots(1, len(names), squeeze=False)[0]
        for axis, name, colour in zip(axes, names, _COLOURS, strict=False):
            axis.plot(*_series(metrics, name), "o-", color=colour, markersize=4)
            axis.set(title=_SEEN[name], xlabel="samples seen")
            axis.xaxis.set_major_formatter(EngFormatter(sep=""))
        return svg(figure)


def probe_curves(curves: dict[str, list[float]]) -> str:
    """Accuracy on the test images after every epoch of the probes by SGD, in percent; the last is
    the result. SVG data URI.
    """
    figure = Figure(figsize=(8.4, 2.7), layout="constrained")
    with mpl.rc_context(STYLE):
        axis = figure.subplots()
        for colour, (name, percents) in zip(_COLOURS, curves.items(), strict=False):
            epochs = range(1, len(percents) + 1)
            axis.plot(epochs, percents, color=colour, label=wording.title(name))
            axis.plot(epochs[-1], percents[-1], "o", color=colour, markersize=4)
        axis.set(xlabel="epochs of the probe", ylabel="top-1, %")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.legend()
        return svg(figure)


def teacher_curve(metrics: Metrics) -> str | None:
    """Fréchet distance of the teacher's images over the images that it has seen, SVG data URI; None
    if there are fewer than two points.
    """
    if len(metrics) < 2:
        return None
    figure = Figure(figsize=(8.4, 2.5), layout="constrained")
    with mpl.rc_context(STYLE):
        axis = figure.subplots()
        seen = [row["images_seen"] for row in metrics]
        axis.plot(seen, [row["frechet_distance"] for row in metrics], "o-", color=_COLOURS[1])
        axis.set(xlabel="images seen by the teacher", ylabel="Fréchet distance", yscale="log")
        axis.xaxis.set_major_formatter(EngFormatter(sep=""))
        return svg(figure)


_BARS = {"student": "#3b6fb6", **dict(zip(wording.BASELINES, ("#b9b4a7", "#8a8577"), strict=True))}
_CONTROL_BAR = "#c8553d"
_BARS_WIDTH = 0.81
_MOST_NUMBERS = 20  # classes whose counts can be read
_MOST_NAMES = 50


def result_bars(groups: Sequence[Group]) -> str:
    """Accuracy of every representation under every probe that it has, SVG data URI; error bars are
    ± one std.
    """
    columns = list_columns(groups)
    figure = Figure(figsize=(8.4, 2.9), layout="constrained")
    with mpl.rc_context(STYLE):
        axis = figure.subplots()
        names = list_representations(groups)
        width = _BARS_WIDTH / len(names)
        for offset, name in enumerate(names):
            cells = [find_group(groups, name, column) for column in columns]
            shown = [(place, found) for place, found in enumerate(cells) if found is not None]
            bars = axis.bar(
                [place + (offset - (len(names) - 1) / 2) * width for place, _ in shown],
                [found.summary.mean for _, found in shown],
                0.93 * width,
                yerr=[found.summary.std or np.nan for _, found in shown],  # none, no cap
                color=_BARS.get(name, _CONTROL_BAR),
                label=wording.title(name),
                capsize=2,
            )
            axis.bar_label(bars, fmt="%.1f", fontsize=7, padding=2)
        axis.set_xticks(
            np.arange(len(columns)), [wording.probe_title(*column) for column in columns]
        )
        axis.set(ylabel="top-1, %", ylim=(0, 112))
        axis.grid(axis="x", visible=False)
        axis.legend(ncols=len(names), loc="upper center", bbox_to_anchor=(0.5, 1.18))
        return svg(figure)


def confusion_matrix(counts: list[list[int]], classes: list[str]) -> str:
    """Test images by true class (rows) and predicted class (columns), SVG data URI; shades are
    shares of the row.
    """
    table = np.array(counts, dtype=float)
    shares = table / np.maximum(table.sum(1, keepdims=True), 1)
    size = min(3 + 0.3 * len(classes), 9)
    figure = Figure(figsize=(size, size), layout="constrained")
    with mpl.rc_context(STYLE):
        axis = figure.subplots()
        axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        if len(classes) <= _MOST_NUMBERS:
            for (row, column), share in np.ndenumerate(shares):
                if table[row, column]:
                    shade = "white" if share > 0.5 else "#333333"
                    count = f"{table[row, column]:.0f}"
                    axis.text(column, row, count, ha="center", va="center", color=shade, size=7)
        if len(classes) <= _MOST_NAMES:
            places = range(len(classes))
            axis.set_xticks(places, classes, rotation=90)
            axis.set_yticks(places, classes)
        axis.set(xlabel="predicted", ylabel="true")
        axis.grid(visible=False)
        return svg(figure)


def _series(metrics: Metrics, name: str) -> tuple[list[float], list[float]]:
    rows = [row for row in metrics if name in row]
    return [row["samples_seen"] for row in rows], [row[name] for row in rows]


def _draw(axis: Axes, series: tuple[list[float], list[float]], **style: Any) -> None:
    """A line; a dot where a short training left a single point."""
    axis.plot(*series, marker="o" if len(series[0]) == 1 else "", markersize=4, **style)


def svg(figure: Figure) -> str:
    """SVG data URI."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue().encode()).decode()

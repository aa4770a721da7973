"""Synthetic samples in the plane -> what `scatter.html.j2` shows: panels, colours, thumbnails, and
a still picture for readers without JavaScript.
"""

from __future__ import annotations

import base64
import colorsys
import io
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from PIL import Image

from pipeline.records.embeddings import EmbeddedSpace, Embeddings
from pipeline.report.figures import STYLE

TITLES = {
    "discriminator": "discriminator features",
    "w": "mapped latents w",
    "generator": "pooled generator features",
    "student": "student’s representations",
}
# Petroff 2021, "Accessible color sequences for data visualization", arXiv:2107.02270: also for the
# colour-blind
_PALETTE = (
    *("#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6"),
    *("#a96b59", "#e76300", "#b9ac70", "#717581", "#92dadd"),
)
_MAX_LEGEND = 20
_STEPS = 2**16 - 1
"""Coordinates in the page are whole numbers from 0 to this."""
_THUMBNAIL_SIDES = (32, 16)
_MAX_SHEET_BYTES = 1_500_000
_NUM_COLOURS = 128
"""Of a sheet, and of the still picture: enough at this size, and a quarter of the bytes."""


@dataclass(frozen=True)
class Panel:
    """One space."""

    title: str
    note: str


@dataclass(frozen=True)
class ClassEntry:
    """One class of the legend."""

    name: str
    colour: str
    count: int


@dataclass(frozen=True)
class ThumbnailSheet:
    """Samples 0 … `count` - 1, row by row on one picture."""

    uri: str
    side: int
    columns: int
    count: int


@dataclass(frozen=True)
class Scatter:
    """All that `scatter.html.j2` wants.

    Attributes:
        panels: one per space.
        classes: in the order of their labels.
        has_legend: whether there are few enough classes to switch them on and off.
        palette: which colours they have, in words.
        sheet: the samples themselves.
        still: the panels as a PNG data URI.
        protocols: how it was made.
        data: for the script: whole coordinates x, y, x, y, … of every panel, y downwards, and of
            every sample its label and the percentage of its confidence.
    """

    panels: tuple[Panel, ...]
    classes: tuple[ClassEntry, ...]
    has_legend: bool
    palette: str
    sheet: ThumbnailSheet
    still: str
    protocols: tuple[str, ...]
    data: dict[str, Any]


def make_scatter(embeddings: Embeddings, images: np.ndarray) -> Scatter:
    """The content of `scatter.html.j2`; `images` uint8 [M, 3, R, R] are samples 0 … M-1, of which
    as many get a thumbnail as fit 1.5 MB.
    """
    names, labels = embeddings.class_names, embeddings.labels
    colours = class_colours(len(names))
    counts = np.bincount(labels, minlength=len(names)).tolist()
    sheet = make_sheet(images[: len(labels)])
    places = [_quantise(space.coordinates) for space in embeddings.spaces]
    return Scatter(
        panels=tuple(Panel(TITLES[space.name], _note(space)) for space in embeddings.spaces),
        classes=tuple(map(ClassEntry, names, colours, counts)),
        has_legend=len(names) <= _MAX_LEGEND,
        palette="the ten of Petroff 2021, made to be told apart by the colour-blind, too"
        if len(names) <= len(_PALETTE)
        else "hues by class, too many to be told apart by eye alone",
        sheet=sheet,
        still=_still(embeddings, colours),
        protocols=embeddings.protocols,
        data={
            "steps": _STEPS,
            "points": [place.ravel().tolist() for place in places],
            "labels": labels.tolist(),
            "confidences": (100 * embeddings.confidences).round().astype(int).tolist(),
            "names": list(names),
            "colours": list(colours),
            "sheet": {"side": sheet.side, "columns": sheet.columns, "count": sheet.count},
        },
    )


def class_colours(num_classes: int) -> tuple[str, ...]:
    """A colour `#rrggbb` for each class: up to ten that the colour-blind can tell apart, else hues
    by index.
    """
    if num_classes <= len(_PALETTE):
        return _PALETTE[:num_classes]
    hues = (
        colorsys.hls_to_rgb(index / num_classes, 0.42 + 0.2 * (index % 2), 0.65)
        for index in range(num_classes)
    )
    return tuple("#" + "".join(f"{round(255 * part):02x}" for part in hue) for hue in hues)


def make_sheet(images: np.ndarray, max_bytes: int = _MAX_SHEET_BYTES) -> ThumbnailSheet:
    """Thumbnails of uint8 images [N, 3, R, R], N > 0, on one PNG whose data URI has at most
    `max_bytes`: of 32 px at most, of 16 where that is too much, and then of the first images only.
    """
    sheet = _lay_out(_shrink(images, _THUMBNAIL_SIDES[0]))
    if len(sheet.uri) <= max_bytes:
        return sheet
    small = _shrink(images, _THUMBNAIL_SIDES[1])
    sheet = _lay_out(small)
    while len(sheet.uri) > max_bytes and sheet.count > 1:
        count = int(0.95 * sheet.count * max_bytes / len(sheet.uri))
        sheet = _lay_out(small[: max(1, count)])
    return sheet


def _shrink(images: np.ndarray, side: int) -> np.ndarray:
    """Images [N, 3, R, R], averaged to `side` px where they are larger."""
    if images.shape[-1] <= side:
        return images
    pixels = images.transpose(0, 2, 3, 1)
    resized = [
        Image.fromarray(image).resize((side, side), Image.Resampling.BOX) for image in pixels
    ]
    return np.stack([np.asarray(image) for image in resized]).transpose(0, 3, 1, 2)


def _lay_out(images: np.ndarray) -> ThumbnailSheet:
    count, _, side, _ = images.shape
    columns = int(np.ceil(np.sqrt(count)))
    rows = -(-count // columns)
    cells = np.zeros((rows * columns, 3, side, side), np.uint8)
    cells[:count] = images
    pixels = cells.reshape(rows, columns, 3, side, side).transpose(0, 3, 1, 4, 2)
    uri = _small_png(pixels.reshape(rows * side, columns * side, 3))
    return ThumbnailSheet(uri, side, columns, count)


def _small_png(pixels: np.ndarray) -> str:
    """Data URI of uint8 [H, W, 3] in `_NUM_COLOURS` colours."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).quantize(_NUM_COLOURS).save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _note(space: EmbeddedSpace) -> str:
    return (
        f"{space.num_dims:,} dimensions; label agreement {space.agreement:.1f}\N{NO-BREAK SPACE}%, "
        f"in the picture {space.plane_agreement:.1f}\N{NO-BREAK SPACE}%"
    )


def _quantise(coordinates: np.ndarray) -> np.ndarray:
    """Whole numbers [N, 2] from 0 to `_STEPS`, y downwards, both on one scale, in the middle."""
    low, high = coordinates.min(0), coordinates.max(0)
    span = float((high - low).max()) or 1.0
    placed = (coordinates - (low + high) / 2) / span * [1, -1] + 0.5
    found: np.ndarray = (placed * _STEPS).round().clip(0, _STEPS).astype(np.int64)
    return found


def _still(embeddings: Embeddings, colours: tuple[str, ...]) -> str:
    """PNG data URI."""
    names = embeddings.class_names
    figure = Figure(figsize=(2.9 * len(embeddings.spaces), 3.5), dpi=110, layout="constrained")
    with mpl.rc_context({**STYLE, "axes.grid": False}):
        axes = figure.subplots(1, len(embeddings.spaces), squeeze=False)[0]
        point_colours = np.array(colours)[embeddings.labels].tolist()
        for axis, space in zip(axes, embeddings.spaces, strict=True):
            axis.scatter(*space.coordinates.T, c=point_colours, s=3, linewidths=0)
            axis.set(title=TITLES[space.name], xticks=[], yticks=[], aspect="equal")
            axis.set_adjustable("datalim")
            axis.spines[:].set_color("#dedbd2")
            axis.spines[:].set_visible(True)
        if len(names) <= _MAX_LEGEND:
            handles = [
                Line2D([], [], color=colour, marker="o", linestyle="", label=name)
                for name, colour in zip(names, colours, strict=True)
            ]
            columns = 2 * len(embeddings.spaces)  # names wider than an inch would not fit
            figure.legend(handles=handles, loc="outside lower center", ncols=columns)
        canvas: Any = FigureCanvasAgg(figure)
        canvas.draw()
    return _small_png(np.asarray(canvas.buffer_rgba())[..., :3])

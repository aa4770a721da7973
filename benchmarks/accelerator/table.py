"""Predicted and measured, side by side."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from benchmarks.accelerator.findings import Figure, read_figures
from benchmarks.accelerator.place import METHODS

NOT_MEASURED = "not measured"
PREDICTED = {
    "student: step, floor": "3.2 ms",
    "student: step": "9–10 ms",
    f"{METHODS[0]}: step": "9–10 ms",
    "rendering, 512 channels, bfloat16": "20,000 images/s",
    "rendering, 256 channels, bfloat16": "50,000 images/s",
    "rendering, 128 channels, bfloat16": "",
    "teacher step, 512 channels": "25 ms",
    "teacher step, 256 channels": "9 ms",
    "teacher step, 128 channels": "",
    **{f"{name} step: waits": "0" for name in (*METHODS, "teacher")},
    "student: step: launches": "",
    "teacher: step: launches": "",
    "images: unpacked and packed": "below 30 s",
    **{f"{method}: {probe} top-1": "" for method in METHODS for probe in ("linear_sgd", "knn")},
}
"""What there is to beat, of full size on one H100 or H200; empty where nothing was predicted."""
_MODES = ("off", "default", "reduce-overhead")
COLUMNS = ("", "predicted", "not compiled", "compiled", "with CUDA graphs")


def tabulate(folders: Sequence[Path]) -> list[tuple[str, ...]]:
    """Rows of text under `COLUMNS`: those predicted, then all others found in `folders`."""
    figures = [figure for folder in folders for figure in read_figures(folder)]
    names = dict.fromkeys([*PREDICTED, *(figure.name for figure in figures)])
    return [(name, PREDICTED.get(name) or "–", *_measured(figures, name)) for name in names]


def _measured(figures: Sequence[Figure], name: str) -> tuple[str, ...]:
    found = {figure.mode or "off": figure for figure in figures if figure.name == name}
    if not found:
        return (NOT_MEASURED, "", "")
    return tuple(_text(found[mode]) if mode in found else "" for mode in _MODES)


def _text(figure: Figure) -> str:
    if figure.value is None:
        return figure.problem.strip().splitlines()[-1]
    number = f"{figure.value:,.0f}" if abs(figure.value) >= 100 else f"{figure.value:.3g}"
    return f"{number} {figure.unit}".strip()


def describe(folders: Sequence[Path]) -> list[str]:
    """Device, size and commit of each file in `folders`, and what the data are."""
    lines = []
    for path in sorted(path for folder in folders for path in folder.glob("*.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        if "device" in content:
            size = "toy size" if content["is_toy"] else "full size"
            device, commit = content["device"]["name"], (content["commit"] or "unknown")[:12]
            lines += [content["data"], f"{path.parent.name}: {device}, {size}, commit {commit}"]
    return list(dict.fromkeys(lines))


def as_markdown(rows: Sequence[Sequence[str]]) -> str:
    """A table that can be read in a terminal, too."""
    lines = [COLUMNS, *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * width for width in widths])
    padded = [map(str.ljust, line, widths) for line in lines]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in padded)

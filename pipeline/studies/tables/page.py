"""Numbers of the tables -> `tables.md`, `tables.html` and `tables.parquet` in the run's folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.figure import Figure

from pipeline.config.root import Config
from pipeline.report.figures import STYLE, svg
from pipeline.report.sections import write_section
from pipeline.studies.collect import (
    Number,
    Score,
    as_columns,
    column_title,
    columns_of,
    main_column,
    protocol_texts,
    read_numbers,
    score,
)
from pipeline.studies.tables.rows import TABLES, Row, Table, choose_configs

if TYPE_CHECKING:
    from pipeline.studies.cells import Cell


def write_tables(base: Config, cells: Sequence[Cell], problems: Mapping[str, str]) -> list[Path]:
    """Write the three files; returns their paths.

    Args:
        base: the config whose tables they are.
        cells: all trainings; those without results are left out of the means.
        problems: row -> why it could not be run.
    """
    numbers = read_numbers(cells)
    view = _view(base, numbers, problems)
    folder = Path(__file__).parent
    return write_section(base.run_dir, "tables", folder, view, as_columns(numbers))


def _view(base: Config, numbers: Sequence[Number], problems: Mapping[str, str]) -> dict[str, Any]:
    """What the templates show."""
    columns = columns_of(numbers)
    paper = base.tables.paper
    configs = choose_configs(base.tables.rows)
    tables = []
    for table in TABLES:
        chosen = [row for row in table.rows if row.config in configs]
        if not chosen:
            continue
        table = replace(table, rows=tuple(chosen))
        rows = [_view_row(row, numbers, columns, paper, problems) for row in chosen]
        plot = _plot(table, numbers, paper)
        tables.append({"title": table.title, "rows": rows, "plot": plot})
    return {
        "name": base.name,
        "source": base.real.source,
        "resolution": base.real.resolution,
        "tables": tables,
        "columns": [column_title(*column) for column in columns],
        "paper": paper,
        "protocols": protocol_texts(numbers),
        "seeds": ", ".join(map(str, base.tables.seeds)),
        "num_seeds": len(base.tables.seeds),
        "epochs": base.tables.epochs or base.train.epochs,
        "pool_size": base.generate.num_samples,
        "variant": base.train.variant,
        "batch_norm": base.train.batch_norm,
        "notes": _notes(numbers),
        "commits": sorted({number.commit for number in numbers}),
    }


def _view_row(
    row: Row,
    numbers: Sequence[Number],
    columns: Sequence[tuple[str, str]],
    paper: str | None,
    problems: Mapping[str, str],
) -> dict[str, Any]:
    of_row = [number for number in numbers if number.row == row.config]
    scores = [score(numbers, row.config, column) for column in columns]
    collapsed = {number.seed for number in of_row if number.collapsed}
    remarks = []
    if collapsed:
        num_seeds = len({number.seed for number in of_row})
        remarks.append(f"collapsed in {len(collapsed)} of {num_seeds} trainings")
    if row.config in problems:
        remarks.append(f"not run: {problems[row.config]}")
    return {
        "label": row.label,
        "images": row.images,
        "config": row.config,
        "cells": ["–" if found is None else str(found) for found in scores],
        "paper": "–" if paper is None else f"{row.paper[paper]:.2f}" if paper in row.paper else "–",
        "remark": "; ".join(remarks),
    }


def _notes(numbers: Sequence[Number]) -> list[str]:
    """What has to be known of some rows."""
    without = sorted({n.row for n in numbers if n.perceptual not in ("", "lpips")})
    notes = [f"{row}: {_first(numbers, row).perceptual}" for row in without]
    sizes = {number.pool_size for number in numbers if number.pool_size > 0}
    if len(sizes) > 1:
        notes.append(f"pool sizes differ: {', '.join(f'{size:,}' for size in sorted(sizes))}")
    return notes


def _first(numbers: Sequence[Number], row: str) -> Number:
    return next(number for number in numbers if number.row == row)


def _plot(table: Table, numbers: Sequence[Number], paper: str | None) -> str:
    """Mean and deviation of every row in the main column, and the paper's number."""
    labels = [f"{row.label} ({row.images})" for row in table.rows]
    column = main_column(columns_of(numbers))
    scores: list[Score | None] = [score(numbers, row.config, column) for row in table.rows]
    figure = Figure(figsize=(8.4, 0.32 * len(labels) + 0.9), layout="constrained")
    with mpl.rc_context(STYLE):
        axis = figure.subplots()
        places = range(len(labels))
        found = [(y, s) for y, s in zip(places, scores, strict=True) if s is not None]
        axis.errorbar(
            [s.mean for _, s in found],
            [y for y, _ in found],
            xerr=[s.std or 0 for _, s in found],
            fmt="o",
            color="#3b6fb6",
            capsize=2,
            label="ours",
        )
        theirs = [
            (y, row.paper[paper])
            for y, row in zip(places, table.rows, strict=True)
            if paper is not None and paper in row.paper
        ]
        if theirs:
            axis.plot(
                [value for _, value in theirs],
                [y for y, _ in theirs],
                "D",
                color="#c8553d",
                label="paper",
            )
            axis.legend(loc="lower left")
        axis.set_yticks(list(places), labels)
        axis.invert_yaxis()
        axis.set(xlabel=f"top-1, %, {column_title(*column)}")
        return svg(figure)

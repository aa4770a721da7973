"""Numbers of the tables -> `tables.md`, `tables.html` and `tables.parquet` in the run's folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from pipeline.config.root import Config
from pipeline.report.figures import STYLE, svg
from pipeline.report.sections import write_section
from pipeline.results.spread import summarise
from pipeline.results.wording import EMPTY, probe_title, protocol_notes
from pipeline.studies.cells import Cell
from pipeline.studies.collect import (
    Outcome,
    cells_of,
    columns_of,
    main_column,
    numbers_of,
    parquet_rows,
    read_outcomes,
    remarks_on,
    values_of,
)
from pipeline.studies.tables.rows import TABLES, Row, Table, choose_configs


def write_tables(base: Config, cells: Sequence[Cell], problems: Mapping[str, str]) -> list[Path]:
    """Write the three files; returns their paths.

    Args:
        base: the config whose tables they are.
        cells: all trainings; those without results are left out of the means.
        problems: row -> why it could not be run.
    """
    outcomes = read_outcomes(cells)
    view = _view(base, outcomes, problems)
    folder = Path(__file__).parent
    return write_section(base.run_dir, "tables", folder, view, parquet_rows(outcomes))


def _view(base: Config, outcomes: Sequence[Outcome], problems: Mapping[str, str]) -> dict[str, Any]:
    """What the templates show."""
    paper = base.tables.paper
    configs = choose_configs(base.tables.rows)
    tables = []
    for table in TABLES:
        chosen = [row for row in table.rows if row.config in configs]
        if not chosen:
            continue
        table = replace(table, rows=tuple(chosen))
        rows = [_view_row(row, outcomes, paper, problems) for row in chosen]
        plot = _plot(table, outcomes, paper)
        tables.append({"title": table.title, "rows": rows, "plot": plot})
    return {
        "name": base.name,
        "source": base.real.source,
        "view_size": base.view_size,
        "tables": tables,
        "columns": [probe_title(*column) for column in columns_of(outcomes)],
        "paper": paper,
        "protocols": protocol_notes(numbers_of(outcomes)),
        "seeds": ", ".join(map(str, base.tables.seeds)),
        "num_seeds": len(base.tables.seeds),
        "epochs": base.tables.epochs or base.train.epochs,
        "pool_size": base.generate.num_samples,
        "variant": base.train.variant,
        "batch_norm": base.train.batch_norm,
        "notes": _notes(outcomes),
        "commits": sorted({outcome.train.commit or "" for outcome in outcomes}),
    }


def _view_row(
    row: Row, outcomes: Sequence[Outcome], paper: str | None, problems: Mapping[str, str]
) -> dict[str, Any]:
    return {
        "label": row.label,
        "images": row.images,
        "config": row.config,
        "cells": cells_of(outcomes, row.config),
        "paper": f"{row.paper[paper]:.2f}" if paper in row.paper else EMPTY,
        "remark": "; ".join(remarks_on(outcomes, row.config, problems)),
    }


def _notes(outcomes: Sequence[Outcome]) -> list[str]:
    """What has to be known of some rows."""
    without = {o.row: o.perceptual for o in outcomes if o.perceptual not in ("", "lpips")}
    notes = [f"{row}: {without[row]}" for row in sorted(without)]
    sizes = {size for outcome in outcomes if (size := outcome.train.outputs.pool_size) > 0}
    if len(sizes) > 1:
        notes.append(f"pool sizes differ: {', '.join(f'{size:,}' for size in sorted(sizes))}")
    return notes


def _plot(table: Table, outcomes: Sequence[Outcome], paper: str | None) -> str:
    """Mean and deviation of every row in the main column, and the paper's number."""
    labels = [f"{row.label} ({row.images})" for row in table.rows]
    column = main_column(columns_of(outcomes))
    values = [list(values_of(outcomes, row.config, column).values()) for row in table.rows]
    figure = Figure(figsize=(8.4, 0.32 * len(labels) + 0.9), layout="constrained")
    with mpl.rc_context(STYLE):
        axis = figure.subplots()
        places = range(len(labels))
        found = [(y, summarise(v)) for y, v in zip(places, values, strict=True) if v]
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
        axis.set(xlabel=f"top-1, %, {probe_title(*column)}")
        return svg(figure)

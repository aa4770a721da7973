"""Numbers of a sweep -> `quality-sweep.*` or `pool-sweep.*` in the run's folder: Markdown, HTML and
Parquet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.config.root import Config
from pipeline.report.sections import write_section
from pipeline.results.spread import subtract
from pipeline.results.wording import format_difference, probe_title, protocol_notes
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
from pipeline.studies.sweeps.figures import pool_plot, quality_plot
from pipeline.studies.sweeps.points import Snapshot

_TEMPLATES = Path(__file__).parent
_DISTANCES = ("images_seen", "frechet_distance", "kernel_distance", "feature_space")


def write_quality_sweep(
    base: Config,
    snapshots: Mapping[str, Snapshot],
    cells: Sequence[Cell],
    problems: Mapping[str, str],
) -> list[Path]:
    """Write the three files; returns their paths.

    Args:
        base: the config whose sweep it is.
        snapshots: row -> its teacher, in the order of the training.
        cells: the trainings with results.
        problems: row -> why it could not be run.

    Raises:
        UserError: if the same probe was made by different protocols.
    """
    outcomes = read_outcomes(cells)
    main = main_column(columns_of(outcomes))
    values = {row: values_of(outcomes, row, main) for row in snapshots}
    by_distance = sorted(
        (row for row in snapshots if values[row]), key=lambda row: snapshots[row].frechet_distance
    )
    gain = subtract(values[by_distance[-1]], values[by_distance[0]]) if by_distance else None
    any_snapshot = next(iter(snapshots.values()))
    view = {
        **_view(base, outcomes),
        "rows": [
            {**_view_row(row, base, outcomes, problems), "snapshot": snapshot}
            for row, snapshot in snapshots.items()
        ],
        "feature_space": any_snapshot.feature_space,
        "num_images": any_snapshot.num_images,
        "gain": None if gain is None or len(by_distance) < 2 else format_difference(gain),
        "gain_how": "" if gain is None else gain.how,
        "plot": quality_plot(
            [(snapshots[row].frechet_distance, list(values[row].values())) for row in by_distance],
            f"top-1, %, {probe_title(*main)}",
        ),
    }
    rows = [
        {**row, **{name: getattr(snapshots[row["row"]], name) for name in _DISTANCES}}
        for row in parquet_rows(outcomes)
    ]
    return write_section(base.run_dir, "quality-sweep", _TEMPLATES, view, rows)


def write_pool_sweep(
    base: Config,
    sizes: Mapping[str, int | None],
    cells: Sequence[Cell],
    problems: Mapping[str, str],
) -> list[Path]:
    """Write the three files; returns their paths.

    Args:
        base: the config whose sweep it is.
        sizes: row -> its pool size, rising; None: rendered for every step.
        cells: the trainings with results.
        problems: row -> why it could not be run.

    Raises:
        UserError: if the same probe was made by different protocols.
    """
    outcomes = read_outcomes(cells)
    main = main_column(columns_of(outcomes))
    values = {row: values_of(outcomes, row, main) for row in sizes}
    (online,) = (row for row, size in sizes.items() if size is None)
    rendered = next((o.train.outputs.pool_size for o in outcomes if o.row == online), None)
    rows = []
    for row, size in sizes.items():
        lost = subtract(values[online], values[row]) if values[online] and values[row] else None
        is_limit = size is None
        rows.append({
            **_view_row(row, base, outcomes, problems),
            "size": "online" if is_limit else f"{size:,}",
            "saved": f"{rendered / size:,.1f}×" if rendered and size else "–",
            "lost": "–" if lost is None or is_limit else format_difference(lost),
            "how": "" if lost is None or is_limit else lost.how,
        })  # fmt: skip
    view = {
        **_view(base, outcomes),
        "rows": rows,
        "hows": list(dict.fromkeys(row["how"] for row in rows if row["how"])),
        "num_synthetic": base.train.num_synthetic,
        "rendered": rendered,
        "main": probe_title(*main),
        "plot": pool_plot(
            {size: list(values[row].values()) for row, size in sizes.items()
             if size is not None and values[row]},
            list(values[online].values()),
            f"top-1, %, {probe_title(*main)}",
        ),
    }  # fmt: skip
    found = [{**row, "is_online": row["row"] == online} for row in parquet_rows(outcomes)]
    return write_section(base.run_dir, "pool-sweep", _TEMPLATES, view, found)


def _view_row(
    row: str, base: Config, outcomes: Sequence[Outcome], problems: Mapping[str, str]
) -> dict[str, Any]:
    """What the templates show of every row."""
    remarks = remarks_on(outcomes, row, problems)
    seeds = sorted(outcome.seed for outcome in outcomes if outcome.row == row)
    if 0 < len(seeds) < len(base.sweep.seeds):
        remarks.append(f"seeds {', '.join(map(str, seeds))} only")
    return {"row": row, "cells": cells_of(outcomes, row), "remark": "; ".join(remarks)}


def _view(base: Config, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """What the templates of both sweeps show."""
    return {
        "name": base.name,
        "source": base.real.source,
        "view_size": base.view_size,
        "method": base.train.method.name,
        "variant": base.train.variant,
        "batch_norm": base.train.batch_norm,
        "seeds": ", ".join(map(str, base.sweep.seeds)),
        "epochs": base.sweep.epochs or base.train.epochs,
        "pool_sizes": ", ".join(
            f"{size:,}" for size in sorted({o.train.outputs.pool_size for o in outcomes})
        ),
        "columns": [probe_title(*column) for column in columns_of(outcomes)],
        "protocols": protocol_notes(numbers_of(outcomes)),
        "commits": sorted({outcome.train.commit or "" for outcome in outcomes}),
    }

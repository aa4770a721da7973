"""Numbers of the trainings -> `worth.md`, `worth.html` and `worth.parquet` in the run's folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.report.sections import write_section
from pipeline.results.spread import Difference, subtract
from pipeline.results.wording import (
    BASELINES,
    EMPTY,
    format_difference,
    probe_title,
    protocol_notes,
    title,
)
from pipeline.studies.collect import (
    Outcome,
    ProbeColumn,
    columns_of,
    main_column,
    mean_and_std,
    numbers_of,
    parquet_rows,
    remarks_on,
    values_of,
)
from pipeline.studies.worth.figures import worth_plot
from pipeline.studies.worth.trainings import ALONE, METHODS, Plan, Trial, Tuning
from pipeline.teacher.description import read_teacher_info

_TEMPLATES = Path(__file__).parent
FIRST = "squeeze-and-span"
PAIRS = {
    (ALONE, FIRST): "what the teacher adds",
    (ALONE, "vicreg-both"): "what its images add by themselves",
    ("vicreg-both", FIRST): "what its features add to its images",
    (ALONE, "squeeze"): "the teacher in place of real images",
}
"""The second less the first."""


def write_worth(
    plan: Plan,
    trials: Sequence[Trial],
    tunings: Mapping[str, Tuning],
    outcomes: Sequence[Outcome],
    problems: Mapping[str, str],
) -> list[Path]:
    """Write the three files; returns their paths.

    Args:
        plan: whose trainings they are.
        trials: every method at every size.
        tunings: method -> how its learning rate was chosen.
        outcomes: of the trainings of `trials` that have results.
        problems: row -> why it could not be run.
    """
    found = [*outcomes, *_baselines(outcomes)]
    by_row = {trial.row: trial for trial in trials}
    columns = columns_of(outcomes)
    main = main_column(columns)
    sizes = list(dict.fromkeys((trial.size, trial.num_real) for trial in trials))
    base = plan.base
    view = {
        "name": base.name,
        "source": base.real.source,
        "view_size": base.view_size,
        "num_train": plan.num_train,
        "num_teacher": read_teacher_info(base.teacher_folder).origin.get("num_real"),
        "pool_size": base.generate.num_samples,
        "views": sorted({plan.num_views(trial) for trial in trials}),
        "seeds": base.worth.seeds,
        "sizes": [f"{num_real:,}" for _, num_real in sizes],
        "answers": [_answer(found, size, num_real, main) for size, num_real in sizes],
        "main": probe_title(*main),
        "tables": [
            {
                "title": probe_title(*column),
                "rows": [_row(found, name, sizes, column) for name in (*METHODS, *BASELINES)],
                "differences": [_differences(found, pair, sizes, column) for pair in PAIRS],
            }
            for column in columns
        ],
        "remarks": [
            *(f"{title(name)}: no learning rate worked" for name in METHODS if name not in tunings),
            *(
                f"{_describe(trial)}: {remark}"
                for row, trial in by_row.items()
                for remark in remarks_on(outcomes, row, problems)
            ),
        ],
        "rates": [f"{rate:g}" for rate in plan.rates],
        "tunings": [_tuning(plan, name, tunings.get(name)) for name in METHODS],
        "tuning_size": next(iter(plan.tuning_trials())).num_real,
        "num_tuning_seeds": len(base.worth.tuning_seeds),
        "protocols": protocol_notes(numbers_of(outcomes)),
        "commits": sorted({outcome.train.commit or "" for outcome in outcomes}),
        "plot": worth_plot(
            {
                title(name): {n: _values(found, name, size, main) for size, n in sizes}
                for name in (*METHODS, *BASELINES)
            },
            {
                PAIRS[pair]: {n: _subtract(found, pair, size, main) for size, n in sizes}
                for pair in list(PAIRS)[:3:2]
            },
            f"top-1, %, {probe_title(*main)}",
        ),
    }
    rows = [
        {
            **row,
            "method": by_row[row["row"]].method,
            "num_real": by_row[row["row"]].num_real,
            "learning_rate": by_row[row["row"]].learning_rate,
        }
        for row in parquet_rows(outcomes)
    ]
    return write_section(base.run_dir, "worth", _TEMPLATES, view, rows)


def _baselines(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """As rows beside the students', named by their representation in place of the method."""
    rows = []
    for outcome in (outcome for outcome in outcomes if outcome.row.startswith(ALONE)):
        for name in BASELINES:
            numbers = tuple(n for n in outcome.baselines if n.representation == name)
            row = outcome.row.replace(ALONE, name)
            if numbers:
                rows.append(replace(outcome, row=row, numbers=numbers, baselines=()))
    return rows


def _describe(trial: Trial) -> str:
    return f"{title(trial.method)}, {trial.num_real:,} images"


def _values(
    outcomes: Sequence[Outcome], name: str, size: int | str, column: ProbeColumn
) -> dict[int, float]:
    return values_of(outcomes, f"{name}-{size}", column)


def _subtract(
    outcomes: Sequence[Outcome], pair: tuple[str, str], size: int | str, column: ProbeColumn
) -> Difference | None:
    first, second = (_values(outcomes, name, size, column) for name in pair)
    return subtract(first, second) if first and second else None


def _answer(
    outcomes: Sequence[Outcome], size: int | str, num_real: int, column: ProbeColumn
) -> dict[str, str]:
    """What the teacher adds at one size, as a sentence, and what to make of it."""
    found = _subtract(outcomes, (ALONE, FIRST), size, column)
    with_it, alone = (
        mean_and_std(_values(outcomes, name, size, column)) for name in (FIRST, ALONE)
    )
    if found is None:
        return {"size": f"{num_real:,}", "text": "not measured", "verdict": EMPTY}
    return {
        "size": f"{num_real:,}",
        "text": f"{with_it} % with the teacher, {alone} % without: {format_difference(found)} "
        f"points ({found.how})",
        "verdict": _verdict(found),
    }


def _verdict(found: Difference) -> str:
    if found.low is None or found.high is None:
        return "no interval, so nothing can be told"
    if found.low > 0:
        return "the teacher adds"
    return "the teacher takes away" if found.high < 0 else "no difference is seen"


def _row(
    outcomes: Sequence[Outcome],
    name: str,
    sizes: Sequence[tuple[int | str, int]],
    column: ProbeColumn,
) -> dict[str, Any]:
    cells = [mean_and_std(_values(outcomes, name, size, column)) for size, _ in sizes]
    return {"label": title(name), "is_student": name == FIRST, "cells": cells}


def _differences(
    outcomes: Sequence[Outcome],
    pair: tuple[str, str],
    sizes: Sequence[tuple[int | str, int]],
    column: ProbeColumn,
) -> dict[str, Any]:
    first, second = pair
    found = [_subtract(outcomes, pair, size, column) for size, _ in sizes]
    return {
        "label": f"{title(second)} less {title(first)}",
        "meaning": PAIRS[pair],
        "cells": [EMPTY if one is None else format_difference(one) for one in found],
    }


def _tuning(plan: Plan, name: str, tuning: Tuning | None) -> dict[str, Any]:
    tried = {} if tuning is None else tuning.tried
    return {
        "label": title(name),
        "cells": [f"{tried[rate]:.1f}" if rate in tried else "failed" for rate in plan.rates],
        "chosen": EMPTY if tuning is None else f"{tuning.chosen:g}",
        "is_at_edge": tuning is not None and tuning.chosen in (plan.rates[0], plan.rates[-1]),
    }

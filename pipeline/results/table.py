"""Groups of numbers -> sheets of text, one for each task: rows are runs, columns are measurements.

A column never mixes protocols, splits or metrics. Neighbours: `query.py` makes the groups,
`formats.py` writes sheets down.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from pipeline.results.ledger import Number
from pipeline.results.query import COLUMN, MUST_AGREE, TRAINING, Group, name_differences
from pipeline.results.spread import CONFIDENCE
from pipeline.results.wording import (
    EMPTY,
    Spread,
    format_group,
    protocol_notes,
    split_note,
    spread_over,
    title,
    unit,
)
from shards.errors import UserError


@dataclass(frozen=True)
class Sheet:
    """One table as text."""

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...]
    num_labels: int
    """Columns from the left that are no numbers."""


def make_sheets(groups: Sequence[Group], spread: Spread = "std") -> list[Sheet]:
    """A sheet for each task. A column whose numbers do not agree in all of `MUST_AGREE` is left
    out, with a note that names the fields that differ.

    Raises:
        UserError: with that note, if no column is left.
    """
    agreeing, problems = _agreeing(groups)
    if not agreeing:
        raise UserError("; ".join(problems))
    tasks = dict.fromkeys(found.first.task for found in agreeing)
    sheets = [_sheet([g for g in agreeing if g.first.task == task], spread) for task in tasks]
    left_out = tuple(f"left out: {problem}" for problem in problems)
    return [*sheets[:-1], replace(sheets[-1], notes=(*sheets[-1].notes, *left_out))]


def _agreeing(groups: Sequence[Group]) -> tuple[list[Group], list[str]]:
    """Groups of the columns that agree, and what is wrong with the others."""
    columns: dict[tuple[object, ...], list[Group]] = {}
    for found in groups:
        columns.setdefault(_fields(found, COLUMN), []).append(found)
    problems: dict[tuple[object, ...], str] = {}
    for column, members in columns.items():
        try:
            for other in members[1:]:
                check_agreement(members[0].first, other.first)
        except UserError as problem:
            problems[column] = str(problem)
    kept = [found for found in groups if _fields(found, COLUMN) not in problems]
    return kept, list(problems.values())


def check_agreement(first: Number, second: Number) -> None:
    """Raise `UserError` unless the two may stand in one column."""
    differences = name_differences(first, second, MUST_AGREE)
    if differences:
        place = ", ".join(title(getattr(first, name)) for name in COLUMN if getattr(first, name))
        runs = " and ".join(dict.fromkeys((first.run, second.run)))
        raise UserError(
            f"{place} of {runs}: numbers of different {' and '.join(differences)} are not put side "
            "by side; choose with field=value, such as run=NAME, or list all with --format csv"
        )


def _sheet(groups: Sequence[Group], spread: Spread) -> Sheet:
    columns: dict[tuple[object, ...], list[Group]] = {}
    rows: dict[tuple[object, ...], list[Group]] = {}
    for found in groups:
        columns.setdefault(_fields(found, COLUMN), []).append(found)
        rows.setdefault(_row_key(found), []).append(found)
    labels = _row_labels(rows)
    shared = _shared(columns)
    sizes = {found.summary.num_values for found in groups} - {1}
    show_n = len(sizes) > 1
    body = []
    for key, members in rows.items():
        cells = {_fields(found, COLUMN): _cell(found, spread, show_n) for found in members}
        body.append((*labels[key], *(cells.get(column, EMPTY) for column in columns)))
    first = groups[0].first
    known = [title(first.task)]
    known += [
        unit(first.metric) if name == "metric" else title(getattr(first, name))
        for name in COLUMN[1:]
        if name in shared
    ]
    headings = [_heading(column, shared) for column in columns]
    return Sheet(
        title=", ".join(filter(None, known)),
        headings=("run", "representation", *headings),
        rows=tuple(body),
        notes=tuple(_notes(groups, spread)),
        num_labels=2,
    )


def _fields(found: Group, names: Sequence[str]) -> tuple[object, ...]:
    return tuple(getattr(found.first, name) for name in names)


def _row_key(found: Group) -> tuple[object, ...]:
    names = ["representation", *TRAINING]
    if not found.across_runs:
        names += ["run", "student_digest", "train_seed"]
    return _fields(found, names)


def _row_labels(rows: Mapping[tuple[object, ...], Sequence[Group]]) -> dict[
    tuple[object, ...], tuple[str, str]
]:  # fmt: skip
    """Run and representation; where two rows share them, with the student's digest."""
    labels = {}
    for key, members in rows.items():
        runs = sorted({number.run for found in members for number in found.numbers})
        prefix = os.path.commonprefix(runs)  # noqa: RUF071 (of names, not of paths)
        run = runs[0] if len(runs) == 1 else f"{prefix}*"
        labels[key] = (run, title(members[0].first.representation))
    shared = {label for label, count in Counter(labels.values()).items() if count > 1}
    for key, members in rows.items():
        student = members[0].first.student_digest
        if student is not None and labels[key] in shared:
            labels[key] = (f"{labels[key][0]}@{student[:8]}", labels[key][1])
    return labels


def _shared(columns: Mapping[tuple[object, ...], object]) -> set[str]:
    """Parts of the columns' names that all of them have."""
    return {
        name for index, name in enumerate(COLUMN) if len({column[index] for column in columns}) == 1
    }


def _heading(column: tuple[object, ...], shared: set[str]) -> str:
    named = dict(zip(COLUMN, column, strict=True))
    parts = [
        unit(str(value)) if name == "metric" else title(value)
        for name, value in named.items()
        if name not in shared
    ]
    return ", ".join(parts) or unit(str(named["metric"]))


def _cell(found: Group, spread: Spread, show_n: bool) -> str:
    summary = found.summary
    size = f" (n = {summary.num_values})" if show_n and summary.std is not None else ""
    return f"{format_group(found, spread)}{size}"


def _notes(groups: Sequence[Group], spread: Spread) -> list[str]:
    notes = []
    spreads = [found for found in groups if found.summary.std is not None]
    if spreads:
        what = "standard deviation (ddof 1)" if spread == "std" else (
            f"half of the {100 * CONFIDENCE:.0f} % interval of the mean (Student's t)"
        )  # fmt: skip
        over = dict.fromkeys(spread_over(found) for found in spreads)
        sizes = {found.summary.num_values for found in spreads}
        size = f", n = {sizes.pop()}" if len(sizes) == 1 else ""
        notes.append(f"±: {what} over {' or '.join(over)}{size}")
    if any(f.summary.std is None and f.first.low is not None for f in groups):
        notes.append("[ ]: interval that comes with the one value, as its protocol says")
    if any(found.across_runs for found in groups):
        notes.append("NAME*: all runs whose names begin so and that differ in train.seed only")
    firsts = [found.first for found in groups]
    return [*notes, *protocol_notes(firsts), split_note(firsts)]

"""Groups of numbers -> sheets of text, one for each task: rows are runs, columns are measurements.

A column never mixes protocols, splits or metrics. Neighbours: `query.py` makes the groups,
`formats.py` writes sheets down.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from pipeline.results.ledger import Number
from pipeline.results.query import COLUMN, MUST_AGREE, TRAINING, Group, name_differences
from pipeline.results.spread import CONFIDENCE
from shards.errors import UserError

Spread = Literal["std", "interval"]
_UNITS = {"top1": "top-1, %", "top5": "top-5, %", "mean_per_class": "mean per class, %",
          "mAP": "mAP, %"}  # fmt: skip
_NAMES = {
    "knn": "kNN",
    "all": "all labels",
    "untrained_student": "student, untrained",
    "raw_pixels": "raw pixels",
    "domain_gap": "domain gap",
    "squared_mmd": "squared MMD",
}
_EMPTY = "–"


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


def title(name: object) -> str:
    """A field's value, for readers."""
    return _NAMES.get(str(name), str(name).replace("_", " "))


def unit(metric: str) -> str:
    """A metric and its unit, for readers."""
    return _UNITS.get(metric, title(metric))


def format_value(value: float, metric: str, decimals: int | None = None, sign: str = "-") -> str:
    """One decimal of a percentage, three significant digits of anything else."""
    if metric in _UNITS:
        return f"{value:{sign}.1f}"
    return f"{value:{sign}.3g}" if decimals is None else f"{value:{sign}.{decimals}f}"


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
        body.append((*labels[key], *(cells.get(column, _EMPTY) for column in columns)))
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
    summary, metric = found.summary, found.first.metric
    value = format_value(summary.mean, metric)
    if summary.std is None or summary.low is None:
        low, high = found.first.low, found.first.high
        if len(found.numbers) > 1 or low is None or high is None:
            return value
        return f"{value} [{format_value(low, metric)}, {format_value(high, metric)}]"
    deviation = summary.std if spread == "std" else summary.mean - summary.low
    size = f" (n = {summary.num_values})" if show_n else ""
    return f"{value} ± {format_value(deviation, metric)}{size}"


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
    notes += protocol_notes([found.first for found in groups])
    return notes


def spread_over(found: Group) -> str:
    """What the seeds of a group are of."""
    return "trainings" if found.over_trainings else "seeds of the evaluation, one training each"


def protocol_notes(numbers: Sequence[Number]) -> list[str]:
    """Protocols by probe, with its labels where it has several; and on what was measured."""
    by_probe: dict[str, dict[str, None]] = {}
    for number in numbers:
        by_probe.setdefault(number.probe or number.metric, {})[number.protocol] = None
    protocols: dict[str, dict[str, None]] = {}
    for number in numbers:
        probe = number.probe or number.metric
        parts = [probe, number.labels] if len(by_probe[probe]) > 1 else [probe]
        protocols.setdefault(number.protocol, {})[" ".join(map(title, filter(None, parts)))] = None
    notes = [f"{', '.join(probes)}: {protocol}" for protocol, probes in protocols.items()]
    splits = dict.fromkeys(f"{number.dataset} {number.split_digest[:8]}" for number in numbers)
    return [*notes, f"measured on: {', '.join(splits)}"]

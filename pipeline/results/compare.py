"""Two runs side by side: the difference of every measurement that both have, with its interval.

Neighbours: `query.py` gathers numbers over seeds, `spread.py` has the intervals.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.results.ledger import Number
from pipeline.results.query import (
    COLUMN,
    MUST_AGREE,
    Group,
    group,
    name_differences,
    near,
)
from pipeline.results.spread import CONFIDENCE, Difference, subtract
from pipeline.results.table import Sheet, check_agreement
from pipeline.results.wording import (
    EMPTY,
    format_group,
    format_interval,
    format_value,
    protocol_notes,
    split_note,
    spread_over,
    title,
    unit,
)
from shards.errors import UserError

_LINEAGE = ("representation", "method", "variant", "batch_norm", "train_seed", "epochs",
            "pool_size", "pool_key", "teacher_digest", "commit", "versions", "device")  # fmt: skip


@dataclass(frozen=True)
class Comparison:
    """One measurement of two runs."""

    first: Group
    second: Group
    difference: Difference


def compare_groups(first: Group, second: Group) -> Comparison:
    """Second less first.

    Raises:
        UserError: naming the fields that differ, if the two were not measured alike.
    """
    check_agreement(first.first, second.first)
    return Comparison(first, second, subtract(first.values, second.values))


def compare_runs(
    numbers: Sequence[Number], first: str, second: str, over_trainings: bool = False
) -> list[Comparison]:
    """Every measurement that both runs have.

    Args:
        numbers: of the ledger.
        first: a run, or RUN@DIGEST, the beginning of its student's digest.
        second: likewise.
        over_trainings: take all trainings that differ from the named one in their seed only.

    Raises:
        UserError: for an unknown run, a run with several students, over trainings for two runs of
            the same ones, and if nothing was measured alike in both, naming the fields that differ.
    """
    ours, theirs = (_groups_of(numbers, name, over_trainings) for name in (first, second))
    digests = {ours[0].first.training_digest, theirs[0].first.training_digest}
    if over_trainings and len(digests) == 1:
        raise UserError(
            f"--compare {first} {second} --over-trainings: both are of the same trainings, which "
            "differ in train.seed only; leave out --over-trainings"
        )
    found: list[Comparison] = []
    unlike: list[tuple[Number, Number]] = []
    for column in dict.fromkeys(_column(one) for one in ours):
        ones = [one for one in ours if _column(one) == column]
        others = [other for other in theirs if _column(other) == column]
        alike = [(o, t) for o in ones for t in others if _agree(o.first, t.first)]
        if ones and others and not alike:
            unlike.append((ones[0].first, others[0].first))
        found += [compare_groups(one, other) for one, other in alike]
    if not found and unlike:
        check_agreement(*unlike[0])
    if not found:
        differences = name_differences(ours[0].first, theirs[0].first, MUST_AGREE)
        raise UserError(
            f"{first} and {second}: nothing was measured alike; they differ in "
            f"{', '.join(differences)}"
        )
    return found


def comparison_sheet(comparisons: Sequence[Comparison], names: tuple[str, str]) -> Sheet:
    """The comparisons, a row each, as text."""
    shared = {
        name for name in COLUMN if len({getattr(c.first.first, name) for c in comparisons}) == 1
    }
    firsts = [comparison.first.first for comparison in comparisons]
    notes = [
        f"difference: {names[1]} less {names[0]}; interval: {100 * CONFIDENCE:.0f} %, Student's t",
        *_lineage_notes(comparisons),
        *protocol_notes(firsts),
        split_note(firsts),
    ]
    one = firsts[0]
    known = [
        unit(one.metric) if name == "metric" else title(getattr(one, name))
        for name in COLUMN
        if name in shared
    ]
    varying = [name for name in COLUMN if name not in shared]
    rows = []
    for comparison in comparisons:
        number = comparison.first.first
        labels = [
            unit(number.metric) if name == "metric" else title(getattr(number, name))
            for name in varying
        ] or [unit(number.metric)]
        rows.append((", ".join(labels), *_figures(comparison), comparison.difference.how))
    return Sheet(
        title=", ".join(filter(None, known)),
        headings=("measurement", *names, "difference", "interval", "how"),
        rows=tuple(rows),
        notes=tuple(notes),
        num_labels=1,
    )


def _groups_of(numbers: Sequence[Number], name: str, over_trainings: bool) -> list[Group]:
    run, _, digest = name.partition("@")
    mine = [number for number in numbers if number.run == run]
    if not mine:
        known = list(dict.fromkeys(number.run for number in numbers))
        raise UserError(f"--compare {name}: no such run; {near(run, known)}")
    kinds = dict.fromkeys(number.representation for number in mine)
    kind = "student" if "student" in kinds else next(iter(kinds))
    mine = [number for number in mine if number.representation == kind]
    students = list(dict.fromkeys(number.student_digest or "" for number in mine))
    chosen = [student for student in students if student.startswith(digest)]
    if len(chosen) != 1:
        shown = ", ".join(f"{run}@{student[:8]}" for student in chosen or students)
        raise UserError(f"--compare {name}: not one student of that run; name {shown}")
    mine = [number for number in mine if (number.student_digest or "") == chosen[0]]
    if over_trainings:
        training = mine[0].training_digest
        mine = [
            number
            for number in numbers
            if number.training_digest == training and number.representation == kind
        ]
    return group(mine, over_trainings)


def _column(found: Group) -> tuple[object, ...]:
    return tuple(getattr(found.first, name) for name in COLUMN)


def _agree(first: Number, second: Number) -> bool:
    return not name_differences(first, second, MUST_AGREE)


def _figures(comparison: Comparison) -> tuple[str, ...]:
    metric, found = comparison.first.first.metric, comparison.difference
    interval = EMPTY
    if found.low is not None and found.high is not None:
        interval = format_interval(found.low, found.high, metric, sign="+")
    return (
        format_group(comparison.first),
        format_group(comparison.second),
        format_value(found.mean, metric, sign="+"),
        interval,
    )


def _lineage_notes(comparisons: Sequence[Comparison]) -> list[str]:
    first, second = comparisons[0].first, comparisons[0].second
    fields = [n for n in _LINEAGE if n != "train_seed" or not first.over_trainings]
    differences = name_differences(first.first, second.first, fields)
    text = ", ".join(differences) or "nothing that the ledger has but their weights"
    return [
        f"n counts {spread_over(first)}; ± is the standard deviation (ddof 1)",
        f"they differ in: {text}",
    ]

"""What a card says was measured of a student: of the ledger, or of `results.json` where that has
none.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from pipeline.config.root import Config
from pipeline.records.products import Files, Student
from pipeline.records.record import Record, read_record
from pipeline.results.ledger import read_ledger
from pipeline.results.query import Group, group
from pipeline.results.table import format_value, spread_over, title, unit
from shards.errors import UserError


@dataclass(frozen=True)
class CardNumber:
    """One line of the card's table of numbers."""

    representation: str
    dataset: str
    measured: str
    """Probe, labels and metric, with its unit."""
    value: str
    """With its spread."""
    seeds: str
    protocol: str
    top1: float | None
    """The student's accuracy, for the front matter."""


def card_numbers(config: Config, train: Record[Student]) -> list[CardNumber]:
    """Of the very student in the record `train` and the baselines beside it; none if nothing was
    measured yet.

    Raises:
        UserError: for a damaged ledger or `results.json`.
    """
    return _ledger_numbers(config, train) or _result_numbers(config, train)


def dataset_name(config: Config) -> str:
    """The data set's name; of a folder only its own, not where it lies."""
    real = config.real
    return real.path.name if real.source == "folder" and real.path is not None else real.source


def _ledger_numbers(config: Config, train: Record[Student]) -> list[CardNumber]:
    """Of this very student and the baselines measured beside it."""
    student = train.outputs.digest
    mine = [
        number
        for number in read_ledger(config.paths.runs, [config.name])
        if number.student_digest in (student, None)
    ]
    if not any(number.student_digest == student for number in mine):
        return []
    return [_card_number(found) for found in group(mine)]


def _card_number(found: Group) -> CardNumber:
    number, summary = found.first, found.summary
    spread = "" if summary.std is None else f" ± {format_value(summary.std, number.metric)}"
    is_top1 = number.representation == "student" and number.metric == "top1"
    if summary.std is None and number.low is not None and number.high is not None:
        ends = (format_value(end, number.metric) for end in (number.low, number.high))
        spread = f" [{', '.join(ends)}]"
    seeds = f"{summary.num_values} {spread_over(found)}" if summary.std is not None else "1"
    names = [title(name) for name in (number.probe, number.labels) if name]
    return CardNumber(
        title(number.representation),
        number.dataset,
        ", ".join([*names, unit(number.metric)]),
        f"{format_value(summary.mean, number.metric)}{spread}",
        seeds,
        number.protocol,
        summary.mean if is_top1 and number.task == "classification" else None,
    )


def _result_numbers(config: Config, train: Record[Student]) -> list[CardNumber]:
    """Of `results.json`, if it is of this student."""
    record = read_record(config.run_dir / "eval", Files)
    if record is None or record.inputs["student"] != train.outputs.digest:
        return []
    path = config.run_dir / "results.json"
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: missing or damaged ({error}); run `make eval` again") from None
    return [
        CardNumber(
            title(row["representation"]),
            dataset_name(config),
            f"{title(row['probe'])}, {title(row['labels'])}, {unit('top1')}",
            f"{row['top1_mean']:.1f}"
            + (f" ± {row['top1_std']:.1f}" if len(row["seeds"]) > 1 else ""),
            f"{len(row['seeds'])} draws of the labels, one training"
            if len(row["seeds"]) > 1
            else "1",
            row["protocol"],
            row["top1_mean"] if row["representation"] == "student" else None,
        )
        for row in rows
    ]

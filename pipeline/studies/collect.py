"""What compared trainings left: their numbers in the ledger, and whether they collapsed.

Numbers of different protocols are never put into one column.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from pipeline.engine.metrics import read_metrics
from pipeline.records.products import Files, Student
from pipeline.records.record import Record, read_record
from pipeline.results.ledger import Number, read_evaluation
from pipeline.results.query import MUST_AGREE, group, name_differences, of_first_set
from pipeline.results.spread import summarise
from pipeline.results.wording import EMPTY
from pipeline.studies.cells import Cell
from shards.errors import UserError

COLLAPSED_RANK = 1.5
COLLAPSED_STD = 1e-3
ProbeColumn = tuple[str, str]
"""Probe and labels."""


@dataclass(frozen=True)
class Outcome:
    """What one training left."""

    row: str
    seed: int
    train: Record[Student]
    numbers: tuple[Number, ...]
    """Accuracies of the student."""
    collapsed: bool
    """Whether the student's embeddings ended in a point or on a line."""
    baselines: tuple[Number, ...] = ()
    """Accuracies of what was probed beside the student."""

    @property
    def perceptual(self) -> str:
        """Of an encoding: `lpips`, or why there is none; else empty."""
        return self.train.inputs.get("perceptual", "")


def read_outcomes(cells: Sequence[Cell], must_agree: Sequence[str] = MUST_AGREE) -> list[Outcome]:
    """Those of all cells that have results.

    Args:
        cells: the trainings.
        must_agree: fields of a number that one probe's have in common.

    Raises:
        UserError: if the same probe was made by different protocols.
    """
    outcomes = [outcome for cell in cells for outcome in _read_cell(cell)]
    columns: dict[ProbeColumn, Number] = {}
    for number in (number for outcome in outcomes for number in outcome.numbers):
        first = columns.setdefault((number.probe, number.labels), number)
        if differences := name_differences(number, first, must_agree):
            raise UserError(
                f"{number.run} and {first.run}: measured by different protocols: "
                f"{', '.join(differences)}; delete the `eval` folder of one and run the command "
                "again"
            )
    return outcomes


def _read_cell(cell: Cell) -> list[Outcome]:
    config = cell.config
    train = read_record(config.run_dir / "train", Student)
    evaluated = read_record(config.run_dir / "eval", Files)
    if train is None or evaluated is None:
        return []
    numbers = read_evaluation(config.paths.runs, config.name, evaluated.fingerprint)
    found = of_first_set([number for number in numbers if number.task == "classification"])
    mine = tuple(number for number in found if number.representation == "student")
    others = tuple(number for number in found if number.representation != "student")
    collapsed = has_collapsed(config.run_dir / "train")
    return [Outcome(cell.row, cell.seed, train, mine, collapsed, others)]


def has_collapsed(folder: Path) -> bool:
    """Whether an embedding that the training watched ended in a point or on a line."""
    metrics = read_metrics(folder / "metrics.jsonl")
    if not metrics:
        return False
    last = metrics[-1]
    names = [name.removesuffix("_std") for name in last if name.endswith("_std")]
    return any(
        last[f"{name}_std"] < COLLAPSED_STD or last[f"{name}_effective_rank"] < COLLAPSED_RANK
        for name in names
    )


_MAIN_COLUMNS = (("linear_sgd", "all"), ("linear", "all"))


def main_column(columns: Sequence[ProbeColumn]) -> ProbeColumn:
    """The one of `columns` to plot: a linear probe on all labels, the paper's own if there is
    one.
    """
    found = [column for column in _MAIN_COLUMNS if column in columns]
    return [*found, *columns, _MAIN_COLUMNS[-1]][0]


def numbers_of(outcomes: Sequence[Outcome]) -> list[Number]:
    """Of all trainings."""
    return [number for outcome in outcomes for number in outcome.numbers]


def columns_of(outcomes: Sequence[Outcome]) -> list[ProbeColumn]:
    """In the order in which they were measured."""
    return list(dict.fromkeys((n.probe, n.labels) for n in numbers_of(outcomes)))


def values_of(outcomes: Sequence[Outcome], row: str, column: ProbeColumn) -> dict[int, float]:
    """Seed of the training -> top-1 in percent, a mean over the draws where few labels are
    drawn.
    """
    values = {}
    for outcome in outcomes:
        found = [n.value for n in outcome.numbers if (n.probe, n.labels) == column]
        if outcome.row == row and found:
            values[outcome.seed] = fmean(found)
    return values


def mean_and_std(values: Mapping[int, float]) -> str:
    """Of seed -> value, with the deviation where there are several."""
    if not values:
        return EMPTY
    found = summarise(list(values.values()))
    return f"{found.mean:.1f}" if found.std is None else f"{found.mean:.1f} ± {found.std:.1f}"


def cells_of(outcomes: Sequence[Outcome], row: str) -> list[str]:
    """Mean and standard deviation over the trainings of a row, for every column."""
    return [mean_and_std(values_of(outcomes, row, column)) for column in columns_of(outcomes)]


def remarks_on(outcomes: Sequence[Outcome], row: str, problems: Mapping[str, str]) -> list[str]:
    """What has to be known of a row."""
    collapsed = [outcome.collapsed for outcome in outcomes if outcome.row == row]
    remarks = []
    if any(collapsed):
        remarks.append(f"collapsed in {sum(collapsed)} of {len(collapsed)} trainings")
    if row in problems:
        remarks.append(f"not run: {problems[row]}")
    return remarks


def parquet_rows(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """One for each training, probe and kind of labels."""
    return [
        {
            "row": outcome.row,
            "seed": outcome.seed,
            "probe": found.first.probe,
            "labels": found.first.labels,
            "top1": found.summary.mean,
            "protocol": found.first.protocol,
            "epochs": found.first.epochs,
            "pool_size": found.first.pool_size,
            "variant": found.first.variant,
            "batch_norm": found.first.batch_norm,
            "student": found.first.student_digest,
            "collapsed": outcome.collapsed,
            "perceptual": outcome.perceptual,
            "commit": outcome.train.commit or "",
            "torch": outcome.train.versions["torch"],
        }
        for outcome in outcomes
        for found in group(outcome.numbers)
    ]

"""What compared trainings left -> numbers, one for each row, seed and probe.

Numbers of different protocols are never put into one column.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import TYPE_CHECKING

from pipeline.engine.metrics import read_metrics
from pipeline.records.products import Files, Student
from pipeline.records.record import read_record
from shards.errors import UserError

if TYPE_CHECKING:
    from pipeline.studies.cells import Cell

COLLAPSED_RANK = 1.5
COLLAPSED_STD = 1e-3


@dataclass(frozen=True)
class Number:
    """One accuracy, with all that it depends on."""

    row: str
    seed: int
    probe: str
    labels: str
    top1: float
    """Percent; a mean over the draws where few labels are drawn."""
    protocol: str
    epochs: int
    pool_size: int
    """Different synthetic samples that the training could see."""
    variant: str
    batch_norm: str
    student: str
    """SHA-256 of the weights."""
    collapsed: bool
    """Whether the student's embeddings ended in a point or on a line."""
    perceptual: str
    """Of an encoding: `lpips`, or why there is none; else empty."""
    commit: str
    torch: str


def read_numbers(cells: Sequence[Cell]) -> list[Number]:
    """Those of all cells that have results.

    Raises:
        UserError: if the same probe was made by different protocols.
    """
    numbers = [number for cell in cells for number in _read_cell(cell)]
    protocols: dict[tuple[str, str], Number] = {}
    for number in numbers:
        first = protocols.setdefault((number.probe, number.labels), number)
        if first.protocol != number.protocol:
            raise UserError(
                f"{number.row}-seed{number.seed} and {first.row}-seed{first.seed}: measured by "
                f"different protocols ({number.protocol}; {first.protocol}); delete the `eval` "
                "folder of one and type the command again"
            )
    return numbers


def _read_cell(cell: Cell) -> list[Number]:
    folder = cell.config.run_dir
    train = read_record(folder / "train", Student)
    evaluated = read_record(folder / "eval", Files)
    if train is None or evaluated is None:
        return []
    rows = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    collapsed = has_collapsed(folder / "train")
    return [
        Number(
            row=cell.row,
            seed=cell.seed,
            probe=row["probe"],
            labels=row["labels"],
            top1=row["top1_mean"],
            protocol=row["protocol"],
            epochs=cell.config.train.epochs if cell.config.train.method.trains else 0,
            pool_size=train.outputs.pool_size,
            variant=cell.config.train.variant,
            batch_norm=cell.config.train.batch_norm,
            student=train.outputs.digest,
            collapsed=collapsed,
            perceptual=train.inputs.get("perceptual", ""),
            commit=train.commit or "",
            torch=train.versions["torch"],
        )
        for row in rows
        if row["representation"] == "student"
    ]


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


def main_column(columns: Sequence[tuple[str, str]]) -> tuple[str, str]:
    """The one of `columns` to plot: a linear probe on all labels, the paper's own if there is
    one.
    """
    found = [column for column in _MAIN_COLUMNS if column in columns]
    return [*found, *columns, _MAIN_COLUMNS[-1]][0]


def columns_of(numbers: Sequence[Number]) -> list[tuple[str, str]]:
    """(probe, labels) in the order in which they were measured."""
    return list(dict.fromkeys((number.probe, number.labels) for number in numbers))


_PROBES = {"knn": "kNN", "linear": "linear probe", "linear_sgd": "linear probe by SGD"}


def column_title(probe: str, labels: str) -> str:
    """For readers."""
    shown = "all labels" if labels == "all" else labels.replace("_", " ")
    return f"{_PROBES.get(probe, probe)}, {shown}"


def protocol_texts(numbers: Sequence[Number]) -> list[str]:
    """How the columns were measured: each protocol once, after the columns that are by it."""
    protocols = {(number.probe, number.labels): number.protocol for number in numbers}
    titles: dict[tuple[str, str], list[str]] = {}
    for (probe, labels), protocol in protocols.items():
        titles.setdefault((probe, protocol), []).append(column_title(probe, labels))
    return [f"{'; '.join(columns)}: {protocol}" for (_, protocol), columns in titles.items()]


@dataclass(frozen=True)
class Score:
    """Mean and standard deviation over seeds, in percent; of one seed there is no deviation."""

    mean: float
    std: float | None
    num_seeds: int

    def __str__(self) -> str:
        spread = "" if self.std is None else f" ± {self.std:.1f}"
        return f"{self.mean:.1f}{spread}"


def score(numbers: Sequence[Number], row: str, column: tuple[str, str]) -> Score | None:
    """Of a row and column; None if it has no number."""
    values = [
        number.top1
        for number in numbers
        if number.row == row and (number.probe, number.labels) == column
    ]
    if not values:
        return None
    return Score(mean(values), stdev(values) if len(values) > 1 else None, len(values))


def as_columns(numbers: Sequence[Number]) -> Mapping[str, list[object]]:
    """For Parquet: name -> values."""
    rows = [asdict(number) for number in numbers]
    names = list(Number.__dataclass_fields__)
    return {name: [row[name] for row in rows] for name in names}

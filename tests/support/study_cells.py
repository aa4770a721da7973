"""Trainings of a study as they are when done: records of the stages, and a number in the ledger."""

from __future__ import annotations

from pathlib import Path

from pipeline.config.root import Config
from pipeline.records.products import Files, Student
from pipeline.records.record import write_record
from pipeline.records.spec import Spec
from pipeline.results.ledger import append
from pipeline.studies.cells import Cell
from tests.support.ledger_numbers import number


def write_cell(
    folder: Path, row: str, seed: int, top1: float, *, pool_size: int = 10, protocol: str = "p"
) -> Cell:
    """A training whose student has `top1` by a linear probe, beside a baseline."""
    name = f"{row}-seed{seed}"
    config = Config.model_validate({"name": name, "paths": {"runs": str(folder)}})
    for stage, product in (("train", Student("0" * 64, pool_size)), ("eval", Files())):
        (config.run_dir / stage).mkdir(parents=True)
        write_record(config.run_dir / stage, Spec(stage, {}, {}), product)
    measured = {"run": name, "pool_size": pool_size, "protocol": protocol}
    numbers = [
        number(top1, train_seed=seed, **measured),
        number(1.0, train_seed=None, representation="raw_pixels", **measured),
    ]
    append(folder, Spec("eval", {}, {}).fingerprint, numbers)
    return Cell(row, seed, config)

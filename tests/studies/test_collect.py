"""Numbers of compared trainings: means, refusals, and how collapse is told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.config.root import Config
from pipeline.studies.cells import Cell
from pipeline.studies.collect import (
    cells_of,
    columns_of,
    main_column,
    parquet_rows,
    read_outcomes,
    values_of,
)
from shards.errors import UserError
from tests.support.ledger_numbers import draws
from tests.support.study_cells import write_cell

LINEAR = ("linear", "all")


def test_values_and_cells_are_over_the_seeds_of_the_student(tmp_path: Path) -> None:
    cells = [write_cell(tmp_path, "a", seed, top1) for seed, top1 in enumerate((90.0, 92.0, 97.0))]
    cells.append(write_cell(tmp_path, "b", 0, 50.0))
    outcomes = read_outcomes(cells)
    assert columns_of(outcomes) == [LINEAR]
    assert values_of(outcomes, "a", LINEAR) == {0: 90.0, 1: 92.0, 2: 97.0}
    assert values_of(outcomes, "c", LINEAR) == {}
    assert cells_of(outcomes, "a") == ["93.0 ± 3.6"]  # √13
    assert cells_of(outcomes, "b") == ["50.0"]
    assert cells_of(outcomes, "c") == ["–"]


def test_values_are_means_over_the_draws_of_few_labels(tmp_path: Path) -> None:
    (outcome,) = read_outcomes([write_cell(tmp_path, "a", 0, 90.0)])
    few = replace(outcome, numbers=tuple(draws((80.0, 90.0, 97.0))))
    column = ("linear", "10_per_class")
    assert values_of([few], "a", column) == {0: 89.0}
    (row,) = parquet_rows([few])
    assert (row["row"], row["labels"], row["top1"]) == ("a", "10_per_class", 89.0)


def test_numbers_of_different_protocols_are_refused(tmp_path: Path) -> None:
    cells = [
        write_cell(tmp_path, "a", 0, 90.0, protocol="last epoch"),
        write_cell(tmp_path, "b", 1, 91.0, protocol="best epoch"),
    ]
    with pytest.raises(UserError, match=r"b-seed1 and a-seed0.*best epoch.*last epoch"):
        read_outcomes(cells)


def test_cells_without_results_have_no_numbers(tmp_path: Path) -> None:
    config = Config.model_validate({"name": "a-seed0", "paths": {"runs": str(tmp_path)}})
    assert read_outcomes([Cell("a", 0, config)]) == []


def test_main_column_is_the_papers_probe_else_a_linear_one_else_the_first() -> None:
    knn, linear, sgd = ("knn", "all"), ("linear", "all"), ("linear_sgd", "all")
    assert main_column([knn, linear, sgd]) == sgd
    assert main_column([knn, linear]) == linear
    assert main_column([knn]) == knn

"""Numbers of compared trainings: means, refusals, and how collapse is told."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.config.root import Config
from pipeline.records.products import Files, Student
from pipeline.records.record import write_record
from pipeline.records.spec import Spec
from pipeline.studies.cells import Cell
from pipeline.studies.collect import main_column, protocol_texts, read_numbers, score
from shards.errors import UserError


def write_cell(folder: Path, row: str, seed: int, top1: float, protocol: str = "p") -> Cell:
    name = f"{row}-seed{seed}"
    config = Config.model_validate({"name": name, "paths": {"runs": str(folder)}})
    student, files = Student("0" * 64, 10), Files()
    for stage in ("train", "eval"):
        (config.run_dir / stage).mkdir(parents=True)
        product = student if stage == "train" else files
        write_record(config.run_dir / stage, Spec(stage, {}, {}), product)
    results = [
        {"representation": name, "probe": "linear", "labels": "all", "top1_mean": value,
         "top1_std": 0.0, "seeds": [0], "protocol": protocol}
        for name, value in (("student", top1), ("raw_pixels", 1.0))
    ]  # fmt: skip
    (config.run_dir / "results.json").write_text(json.dumps(results))
    return Cell(row, seed, config)


def test_score_is_mean_and_deviation_over_the_seeds_of_the_student(tmp_path: Path) -> None:
    cells = [write_cell(tmp_path, "a", seed, top1) for seed, top1 in enumerate((90.0, 92.0, 97.0))]
    cells.append(write_cell(tmp_path, "b", 0, 50.0))
    numbers = read_numbers(cells)
    found = score(numbers, "a", ("linear", "all"))
    assert found is not None
    assert (found.mean, found.num_seeds) == (93.0, 3)
    assert found.std == pytest.approx(13**0.5)
    assert str(score(numbers, "b", ("linear", "all"))) == "50.0"
    assert score(numbers, "c", ("linear", "all")) is None


def test_numbers_of_different_protocols_are_refused(tmp_path: Path) -> None:
    cells = [
        write_cell(tmp_path, "a", 0, 90.0, "last epoch"),
        write_cell(tmp_path, "b", 1, 91.0, "best epoch"),
    ]
    with pytest.raises(UserError, match=r"b-seed1 and a-seed0.*best epoch.*last epoch"):
        read_numbers(cells)


def test_protocols_are_named_once_after_their_columns(tmp_path: Path) -> None:
    (number,) = read_numbers([write_cell(tmp_path, "a", 0, 90.0, "p")])
    few = [replace(number, labels=labels, protocol="q") for labels in ("5_per_class", "1_percent")]
    knn = replace(number, probe="knn", protocol="r")
    assert protocol_texts([number, *few, knn, number]) == [
        "linear probe, all labels: p",
        "linear probe, 5 per class; linear probe, 1 percent: q",
        "kNN, all labels: r",
    ]


def test_cells_without_results_have_no_numbers(tmp_path: Path) -> None:
    config = Config.model_validate({"name": "a-seed0", "paths": {"runs": str(tmp_path)}})
    assert read_numbers([Cell("a", 0, config)]) == []


def test_main_column_is_the_papers_probe_else_a_linear_one_else_the_first() -> None:
    knn, linear, sgd = ("knn", "all"), ("linear", "all"), ("linear_sgd", "all")
    assert main_column([knn, linear, sgd]) == sgd
    assert main_column([knn, linear]) == linear
    assert main_column([knn]) == knn

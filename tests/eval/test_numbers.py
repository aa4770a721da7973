"""Rows of `results.json`."""

from __future__ import annotations

from pipeline.eval.numbers import accuracy_rows
from tests.support.ledger_numbers import number


def test_best_epoch_of_a_probe_is_that_of_its_own_set() -> None:
    numbers = [
        number(value, dataset=name, probe="linear_sgd")
        for name, value in (("digits", 60.0), ("mine", 40.0))
    ]
    curves = {("digits", "student"): (70.0, 60.0), ("mine", "student"): (30.0, 40.0)}
    rows = accuracy_rows(numbers, curves)
    assert [(row["set"], row["top1_mean"], row["top1_best"]) for row in rows] == [
        ("digits", 60.0, 70.0),
        ("mine", 40.0, 40.0),
    ]

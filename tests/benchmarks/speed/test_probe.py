from __future__ import annotations

import sys

import pytest
import torch

from benchmarks.measure import OURS
from benchmarks.speed import probe
from pipeline.eval.logistic.choose_penalty import GRID


def test_probe_benchmark_at_toy_size_compares_the_choice_of_both_sides() -> None:
    data = probe.draw_features(400, 12, 3)

    rates, table = probe.compare(data, 3, 1000, torch.device("cpu"), 1, GRID[::9] + GRID[-1:])

    assert all(rate > 0 for rate in rates.values())
    ours, theirs = table.by_heading()
    assert (ours[""], theirs[""]) == (OURS, probe.RIVAL)
    assert ours["C"] == theirs["C"]
    assert ours["validation %"] == theirs["validation %"]
    # scikit-learn's is not below the optimum by more than our tolerance and float32
    assert float(theirs["objective above ours, at least"]) > -1e-5


@pytest.mark.slow
def test_probe_command_prints_the_ratio_to_scikit_learn(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = ["--num-samples", "400", "--classes", "3", "--max-iter", "5"]
    monkeypatch.setattr(sys, "argv", ["probe", *sizes])

    probe.main()

    (line,) = (line for line in capsys.readouterr().out.splitlines() if "fits/s" in line)
    assert probe.RIVAL in line
    assert " x " in line

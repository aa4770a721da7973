from __future__ import annotations

import sys

import pytest

from benchmarks.speed import knn


def test_knn_command_prints_the_ratio_to_faiss(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("faiss")
    sizes = ["--keys", "600", "--dims", "8", "--queries", "20", "--k", "5", "--repeats", "1"]
    monkeypatch.setattr(sys, "argv", ["knn", *sizes])
    monkeypatch.setattr(knn, "_BLOCK_ROWS", 250)

    knn.main()

    (line,) = (line for line in capsys.readouterr().out.splitlines() if "k = 5" in line)
    assert knn.RIVAL in line
    assert " x " in line

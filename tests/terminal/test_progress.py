"""Progress where standard error is no terminal."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from pipeline.terminal import progress


@pytest.fixture
def output(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    output = io.StringIO()
    monkeypatch.setattr(progress, "console", Console(file=output, width=80))
    return output


def test_progress_without_a_terminal_prints_a_line_now_and_then(
    output: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    with progress.progress_bar("samples") as bar:
        task = bar.add_task("generate", total=100, note="")
        for step in range(100):
            clock[0] += 0.5
            bar.update(task, advance=1, note=f"step {step}")
    lines = [line for line in output.getvalue().splitlines() if line.strip()]
    assert 4 <= len(lines) <= 6
    assert "21/100" in lines[0]
    assert "step 20" in lines[0]
    assert "100/100" in lines[-1]


def test_progress_of_a_short_stage_is_one_line(output: io.StringIO) -> None:
    with progress.progress_bar("samples") as bar:
        task = bar.add_task("generate", total=3, note="")
        for _ in range(3):
            bar.advance(task)
    assert output.getvalue().count("3/3") == 1
    assert len(output.getvalue().strip().splitlines()) == 1

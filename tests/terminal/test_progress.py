"""Progress where standard error is no terminal; rate and time left of what is quick or slow."""

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


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The time of a console 120 wide, whose rates have their unit."""
    clock = Clock()
    console = Console(file=io.StringIO(), width=120, get_time=clock)
    monkeypatch.setattr(progress, "console", console)
    return clock


def shown(bar: progress.Progress) -> str:
    console = Console(file=io.StringIO(), width=120)
    with console.capture() as text:
        console.print(bar.make_tasks_table(bar.tasks))
    return " ".join(text.get().split())


@pytest.mark.parametrize(
    ("seconds", "rate", "left"),
    [
        (0.01, "100 trainings/s", "ETA 0:00:01"),
        (0.8, "1.2 trainings/s", "ETA 0:00:08"),
        (20, "3.0 trainings/min", "ETA 0:03:20"),
        (180, "20 trainings/h", "ETA 0:30:00"),
        (7200, "0.5 trainings/h", "ETA 20:00:00"),
    ],
)
def test_rate_and_time_left_are_there_after_one_step_however_long(
    clock: Clock, seconds: float, rate: str, left: str
) -> None:
    with progress.progress_bar("trainings") as bar:
        task = bar.add_task("tables", total=12, completed=1, note="")
        clock.now += seconds
        bar.advance(task)
        line = shown(bar)
    assert "2/12" in line
    assert rate in line
    assert left in line


def test_steps_that_end_together_count_the_time_before(clock: Clock) -> None:
    """Two trainings side by side."""
    with progress.progress_bar("trainings") as bar:
        task = bar.add_task("tables", total=12, note="")
        for _ in range(2):
            clock.now += 359
            bar.advance(task)
            clock.now += 1
            bar.advance(task)
        assert "ETA 0:24:00" in shown(bar)


def test_task_that_starts_later_has_the_rate_of_what_follows(clock: Clock) -> None:
    """What was done before it was stopped took no time now."""
    with progress.progress_bar("images") as bar:
        task = bar.add_task("train", total=1000, start=False, note="")
        for done in (900, 910, 920):
            clock.now += 10
            bar.start_task(task)
            bar.update(task, completed=done)
        line = shown(bar)
    assert "1.0 images/s" in line
    assert "ETA 0:01:20" in line


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

"""The progress bar of every stage: done, total, rate, and time left or, at the end, time taken.

Where standard error is no terminal, as in a cluster's job or a file, a line of it every 10 s.
"""

from __future__ import annotations

import math
import time
from datetime import timedelta
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
from rich.text import Text

console = Console(stderr=True, highlight=False, markup=False)
_WIDE = 100
_LINE_S = 10.0
_SPANS = {"s": 1, "min": 60, "h": 3600}


class _Rate(ProgressColumn):
    """Of what is slower than one a second, a minute's or an hour's."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self.unit = unit

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        if not speed:
            return Text("")
        span = next((name for name, seconds in _SPANS.items() if speed * seconds >= 1), "h")
        count = speed * _SPANS[span]
        unit = f" {self.unit}" if console.width >= _WIDE else ""
        text = f"{count:,.{int(count < 10)}f}{unit}/{span}"
        return Text(text, style="cyan", no_wrap=True)


class _Done(ProgressColumn):
    def render(self, task: Task) -> Text:
        total = "" if task.total is None else f"/{task.total:,.0f}"
        return Text(f"{task.completed:,.0f}{total}", no_wrap=True)


class _Time(ProgressColumn):
    def render(self, task: Task) -> Text:
        seconds = task.finished_time if task.finished else task.time_remaining
        label = "in" if task.finished else "ETA"
        shown = "-:--:--" if seconds is None else str(timedelta(seconds=round(seconds)))
        return Text(f"{label} {shown}", no_wrap=True)


class _Bar(Progress):
    """Its rate is that of a task's last 1,000 steps, from its start on, however long they take: by
    itself rich forgets them after 30 s. A task with `start=False` has a rate from its first step
    on, such as one that goes on where it was stopped.
    """

    def __init__(self, *columns: ProgressColumn) -> None:
        super().__init__(*columns, console=console, speed_estimate_period=math.inf)

    def add_task(self, description: str, start: bool = True, *args: Any, **fields: Any) -> TaskID:
        task_id = super().add_task(description, start, *args, **fields)
        if start:
            super().advance(task_id, 0)
        return task_id


class _Lines(_Bar):
    """Prints a line now and then instead of moving a bar."""

    def __init__(self, *columns: ProgressColumn) -> None:
        super().__init__(*columns)
        self._printed_at = time.monotonic()

    def update(self, task_id: TaskID, *args: Any, **fields: Any) -> None:
        super().update(task_id, *args, **fields)
        self._print(task_id)

    def advance(self, task_id: TaskID, advance: float = 1) -> None:
        super().advance(task_id, advance)
        self._print(task_id)

    def _print(self, task_id: TaskID) -> None:
        task, now = self.tasks[task_id], time.monotonic()
        if now - self._printed_at > _LINE_S and not task.finished:  # the last line comes at the end
            self._printed_at = now
            console.print(self.make_tasks_table([task]))


def progress_bar(unit: str) -> Progress:
    """A bar of `unit`s on standard error; `add_task(description, total=…, note="")` starts it."""
    columns: list[ProgressColumn] = [
        TextColumn("{task.description:<9}"),
        _Done(),
        _Rate(unit),
        _Time(),
        TextColumn("{task.fields[note]}"),
    ]
    if console.width >= _WIDE:  # narrower, the numbers say more than the bar
        columns.insert(1, BarColumn(bar_width=16))
    return _Bar(*columns) if console.is_terminal else _Lines(*columns)

"""The progress bar of every stage: done, total, rate, and time left or, at the end, time taken."""

from __future__ import annotations

from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

console = Console(stderr=True, highlight=False, markup=False)
_WIDE = 100


class _Rate(ProgressColumn):
    def __init__(self, unit: str) -> None:
        super().__init__()
        self.unit = unit

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        unit = f" {self.unit}" if console.width >= _WIDE else ""
        text = "" if speed is None else f"{speed:,.0f}{unit}/s"
        return Text(text, style="cyan", no_wrap=True)


class _Time(ProgressColumn):
    def render(self, task: Task) -> Text:
        seconds = task.finished_time if task.finished else task.time_remaining
        label = "in" if task.finished else "ETA"
        shown = "-:--:--" if seconds is None else str(timedelta(seconds=round(seconds)))
        return Text(f"{label} {shown}", no_wrap=True)


def progress_bar(unit: str) -> Progress:
    """A bar counting `unit`s on standard error; `add_task(description, total=…, note="")` starts
    it.
    """
    columns: list[ProgressColumn] = [
        TextColumn("{task.description:<9}"),
        TextColumn("{task.completed:,.0f}/{task.total:,.0f}"),
        _Rate(unit),
        _Time(),
        TextColumn("{task.fields[note]}"),
    ]
    if console.width >= _WIDE:  # narrower, the numbers say more than the bar
        columns.insert(1, BarColumn(bar_width=16))
    return Progress(*columns, console=console)

"""The progress bar of every stage: done, total, rate, elapsed, ETA."""

from __future__ import annotations

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

console = Console(stderr=True, highlight=False, markup=False)
_WIDE = 120


class _Rate(ProgressColumn):
    def __init__(self, unit: str) -> None:
        super().__init__()
        self.unit = unit

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        text = "" if speed is None else f"{speed:,.0f} {self.unit}/s"
        return Text(text, style="cyan", no_wrap=True)


def progress_bar(unit: str) -> Progress:
    """A bar counting `unit`s, on standard error; `add_task(description, total=…, note="")` starts
    it.
    """
    columns: list[ProgressColumn] = [
        TextColumn("{task.description}"),
        BarColumn(bar_width=16),
        TextColumn("{task.completed:,.0f}/{task.total:,.0f}"),
        _Rate(unit),
        TimeElapsedColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    ]
    if console.width < _WIDE:  # the numbers say more than the bar
        columns = [columns[i] for i in (0, 2, 3, 6, 7)]
    return Progress(*columns, console=console)

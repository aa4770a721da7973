"""Metrics on disk: one JSON object a line, the clock of the training first.

Neighbours: both trainers write through `MetricsLog`; progress display and report read.
"""

from __future__ import annotations

import json
from pathlib import Path

from shards.atomic import write_atomic
from shards.errors import UserError


class MetricsLog:
    """Appends lines to `path`; those after `position`, of progress that was lost, are cut first."""

    def __init__(self, path: Path, clock: str, position: int) -> None:
        self._path = path
        self._clock = clock
        kept = [row for row in read_metrics(path) if row[clock] <= position]
        write_atomic(path, "".join(json.dumps(row) + "\n" for row in kept))

    def write(self, position: int, metrics: dict[str, float]) -> None:
        """Append one line."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({self._clock: position, **metrics}) + "\n")


def read_metrics(path: Path) -> list[dict[str, float]]:
    """All complete lines of `path`, none if it does not exist; a torn last line is left out."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    try:
        return [dict(json.loads(line)) for line in lines if line.endswith("\n")]
    except (ValueError, TypeError):
        raise UserError(f"{path}: damaged; delete {path.parent} to train again") from None

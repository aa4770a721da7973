"""Every step at toy length on a CPU, as a borrowed GPU would see it: stopped, carried, killed,
taken up again.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.accelerator.steps import METHODS
from pipeline.metrics import read_metrics
from shards.errors import UserError

NOT_DONE = 3
_LONG = 60.0
console = Console(highlight=False, soft_wrap=True)


class DryRun:
    """Two machines, which share nothing but what is carried from one to the other."""

    def __init__(self, data: Path, folder: Path) -> None:
        self._data = data
        self._machines = [folder / "first-machine", folder / "second-machine"]
        self._carried = folder / "carried"
        self._rows: list[tuple[str, str, str]] = []
        for place in (*self._machines, self._carried):
            shutil.rmtree(place, ignore_errors=True)

    def run(self) -> None:
        """All of it; raises UserError at the first thing that is not as it should be."""
        first, second = self._machines
        self._step(first, "throughput")
        self._step(first, "teacher-sizes")
        self._step(first, "teacher", minutes=0.8, expect=NOT_DONE, text="stopped in time, packed")
        before = _position(first, "base", "teacher")
        if not list(self._carried.glob("base.teacher.part*")):
            raise UserError("the teacher was stopped before its first step: a quieter machine?")
        self._kill_during(second, "teacher", "base", "teacher", carried=True)
        if _position(second, "base", "teacher") < before:
            raise UserError("the teacher has not gone on where it was packed")
        self._step(second, "teacher", text="killed, typed again, done")
        self._step(second, "pool")
        for method in METHODS:
            name = f"{method}-100"
            if method == METHODS[0]:
                self._kill_during(second, name, name, "train")
                self._step(second, name, text="killed, typed again, done")
            else:
                self._step(second, name)
        self._show()

    def _step(
        self, machine: Path, name: str, minutes: float = _LONG, expect: int = 0, text: str = "done"
    ) -> None:
        since = time.monotonic()
        code = subprocess.run(self._command(machine, name, minutes)).returncode
        if code != expect:
            raise UserError(f"step {name}: ended with {code} instead of {expect}; see above")
        self._rows.append((name, f"{time.monotonic() - since:.0f}", text))

    def _kill_during(
        self, machine: Path, name: str, run: str, stage: str, carried: bool = False
    ) -> None:
        """SIGKILL to the command and its stage once there is a state and steps after it."""
        since, folder = time.monotonic(), machine / "runs" / run / stage
        state = folder / ("state.pt" if stage == "teacher" else "checkpoint.pt")
        command = self._command(machine, name, _LONG, carried)
        process = subprocess.Popen(command, start_new_session=True)
        begun: float | None = None
        while process.poll() is None:
            time.sleep(0.05)
            if not state.exists():
                continue
            position = _position(machine, run, stage)
            begun = position if begun is None else begun
            if position > begun:
                os.killpg(process.pid, signal.SIGKILL)
                break
        if process.wait() != -signal.SIGKILL:
            raise UserError(f"step {name}: ended before it could be killed; see above")
        where = "carried to another machine, " if carried else ""
        took = f"{time.monotonic() - since:.0f}"
        self._rows.append((name, took, f"{where}killed (SIGKILL) with a state saved"))

    def _command(
        self, machine: Path, name: str, minutes: float, carried: bool = False
    ) -> Sequence[str]:
        return [
            *(sys.executable, "-m", "benchmarks.accelerator", "run", name, "--toy"),
            *("--data", str(self._data), "--folder", str(machine), "--minutes", str(minutes)),
            *("--out", str(self._carried)),
            *(("--carried", str(self._carried)) if carried else ()),
        ]

    def _show(self) -> None:
        table = Table("step", "seconds", "")
        for row in self._rows:
            table.add_row(*row)
        console.print(table)
        subprocess.run(
            [sys.executable, "-m", "benchmarks.accelerator", "table", str(self._carried)],
            check=True,
        )
        num_bytes = sum(path.stat().st_size for path in self._carried.glob("*.part*"))
        console.print(f"carried: {num_bytes / 2**20:.1f} MiB of states; all of it is a toy's")


def _position(machine: Path, run: str, stage: str) -> float:
    """Where a training stands, by its metrics."""
    metrics = read_metrics(machine / "runs" / run / stage / "metrics.jsonl")
    clock = "images_seen" if stage == "teacher" else "samples_seen"
    return metrics[-1][clock] if metrics else 0

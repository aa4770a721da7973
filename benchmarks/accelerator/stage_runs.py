"""Stages of the pipeline as commands that end in time and are taken up again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.accelerator.travel import note
from benchmarks.measure import describe_device
from pipeline.device import choose_device
from shards.errors import UserError

HERE = Path(__file__).parent
_STOPPED = (0, 130, -signal.SIGTERM)
"""Exit codes: done; interrupted, with its state saved; stopped before it had begun."""


@dataclass(frozen=True)
class Clock:
    """When a command has to be done, packing included."""

    deadline: float
    """`time.monotonic()`."""

    @classmethod
    def of(cls, minutes: float) -> Clock:
        """A clock of so many minutes from now."""
        return cls(time.monotonic() + 60 * minutes)

    def left_s(self) -> float:
        """Seconds left; may be below 0."""
        return self.deadline - time.monotonic()


@dataclass(frozen=True)
class Workplace:
    """Where everything lies, and what every command of a session has in common."""

    folder: Path
    """Images, store and runs."""
    images: Path
    is_toy: bool
    changes: tuple[str, ...] = ()
    """Overrides that the user typed."""
    command: str = ""
    """The whole command, for the results."""

    @property
    def runs(self) -> Path:
        """Folder of the runs."""
        return self.folder / "runs"

    @property
    def base(self) -> str:
        """Name of the run that has the teacher; not that of the config, which overlays change."""
        return "base"

    def arguments(self, stage: str, run: str, method: str, changes: Sequence[str]) -> list[str]:
        """What follows `python -m pipeline STAGE` for `run`."""
        overlays = [str(HERE / "toy.yaml")] if self.is_toy else []
        if method:
            overlays.append(str(Path("configs/methods") / f"{method}.yaml"))
        teacher = "null" if stage == "teacher" else self.runs / self.base / "teacher"
        return [
            str(HERE / "cifar10.yaml"),
            *overlays,
            f"name={run}",
            f"paths.runs={self.runs}",
            f"paths.store={self.folder / 'store'}",
            f"real.path={self.images}",
            f"teacher.checkpoint={teacher}",
            *changes,
            *self.changes,
        ]

    def run_stage(
        self,
        stage: str,
        clock: Clock,
        run: str,
        method: str = "",
        changes: Sequence[str] = (),
    ) -> bool:
        """Whether the stage is done; it is stopped, its state saved, when time is over.

        Raises:
            UserError: if it failed.
        """
        if clock.left_s() <= 0:
            return False
        command = [
            sys.executable,
            "-m",
            "pipeline",
            stage,
            *self.arguments(stage, run, method, changes),
        ]
        since = time.monotonic()
        # networks so narrow gain nothing from a second thread, and lose much beside other work
        threads = {"OMP_NUM_THREADS": "1"} if self.is_toy else {}
        process = subprocess.Popen(command, env={**os.environ, **threads})
        try:
            code = process.wait(timeout=clock.left_s())
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGTERM)
            code = process.wait()
        minutes = (time.monotonic() - since) / 60
        device = describe_device(choose_device("auto"))["name"]
        entry = {"event": stage, "minutes": round(minutes, 3), "finished": code == 0}
        note(self.runs / run, {**entry, "device": device})
        if code not in _STOPPED:
            raise UserError(f"{run}: the {stage} stage failed, see above; {' '.join(command)}")
        return code == 0

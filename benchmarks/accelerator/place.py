"""With which config a command works, on which device, where, and the processes that it starts."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.accelerator.findings import DATA, Figure, Findings, read_figures
from benchmarks.accelerator.parts import Clock, PartError, run_command
from benchmarks.measure import describe_device
from pipeline.config.file import load_config
from pipeline.config.root import Config
from pipeline.records.environment import current_commit, installed_versions

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
COMMITTED = HERE / "results"
"""Results of earlier loans."""
METHODS = ("squeeze-and-span", "vicreg-both")
"""The students that are compared: files in configs/methods."""
_SAVING_S = {"teacher": 8.0, "generate": 4.0}  # after the signal to stop


@dataclass(frozen=True)
class Setting:
    """A config, at full or at toy size, and the device."""

    is_toy: bool
    changes: tuple[str, ...]
    """Overrides that the user typed."""
    device: torch.device

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of the teachers to choose among, the most likely ones first."""
        return (8, 16) if self.is_toy else (256, 512, 128)

    def files(self, changes: Sequence[str] = ()) -> list[str]:
        """The config, what is laid over it, and overrides, in order."""
        overlays = [str(HERE / "toy.yaml")] if self.is_toy else []
        ordered = sorted(changes, key=lambda change: "=" in change)  # files first
        return [str(HERE / "cifar10.yaml"), *overlays, *ordered, *self.changes]

    def config(self, changes: Sequence[str] = ()) -> Config:
        """The config with `changes`."""
        path, *rest = self.files(changes)
        return load_config(Path(path), rest)


def method_file(method: str) -> str:
    """The file that says how `method` trains."""
    return str(ROOT / "configs" / "methods" / f"{method}.yaml")


def of_width(channels: int) -> tuple[str, str]:
    """Overrides for a teacher of as many channels in every block."""
    return f"teacher.channel_base={32 * channels}", f"teacher.channel_max={channels}"


@dataclass(frozen=True)
class Place:
    """The folders of one command."""

    command: str
    """`measure` or `train`."""
    folder: Path
    """Images, store, runs, results, and what was compiled; of both commands."""
    setting: Setting

    @property
    def results(self) -> Path:
        """Folder of what the command leaves."""
        return self.folder / self.command

    @property
    def runs(self) -> Path:
        """Folder of the runs."""
        return self.folder / "runs"

    def earlier_figures(self) -> list[Figure]:
        """What `measure` found: here, else what is committed."""
        found = read_figures(self.folder / "measure")
        return found or ([] if self.setting.is_toy else read_figures(COMMITTED / "measure"))

    def run_piece(
        self, name: str, clock: Clock, options: Sequence[str] = (), mode: str = ""
    ) -> str:
        """Measure a piece of `pieces.py`, in a mode of torch.compile if it has any.

        Raises:
            PartError: if it failed, or was stopped; its figures so far are kept.
        """
        file = f"{name}-{mode}" if mode else name
        toy, compiled = ["--toy"] * self.setting.is_toy, ["--mode", mode] if mode else []
        json = str(self.results / f"{file}.json")
        command = ["-m", "benchmarks.accelerator.pieces", name, "--json", json, *toy, *compiled]
        if not self._run([*command, *options, *self.setting.changes], clock, file, 1.0):
            raise PartError("out of time", "what it had measured is kept")
        return ""

    def run_stage(self, stage: str, run: str, clock: Clock, changes: Sequence[str] = ()) -> bool:
        """Run a stage of the pipeline for `run`; whether it was not stopped by the clock."""
        arguments = self.setting.files([*changes, *self.overrides(run)])
        saving_s = _SAVING_S.get(stage, 1.0)
        return self._run(["-m", "pipeline", stage, *arguments], clock, f"{run}-{stage}", saving_s)

    def overrides(self, run: str) -> list[str]:
        """Where the stages of `run` find everything."""
        return [
            f"name={run}",
            f"paths.runs={self.runs}",
            f"paths.store={self.folder / 'store'}",
            f"real.path={self.folder / 'images'}",
        ]

    def _run(self, arguments: Sequence[str], clock: Clock, log: str, saving_s: float) -> bool:
        caches = {"TORCHINDUCTOR_CACHE_DIR": str((self.folder / "compiled").resolve())}
        # networks so narrow gain nothing from a second thread, and lose much beside other work
        threads = {"OMP_NUM_THREADS": "1"} if self.setting.is_toy else {}
        environment = {**os.environ, **caches, **threads}
        command, path = [sys.executable, *arguments], self.results / f"{log}.log"
        return run_command(command, clock, path, environment, saving_s)


def open_findings(path: Path, setting: Setting) -> Findings:
    """Empty findings of this process."""
    circumstances = {
        "data": DATA,
        "is_toy": setting.is_toy,
        "command": " ".join(["python", "-m", "benchmarks.accelerator", *sys.argv[1:]]),
        "commit": current_commit(),
        "device": describe_device(setting.device),
        "versions": installed_versions(),
    }
    return Findings(path, circumstances)

"""Parts of a command, one after the other, each under its own time limit; what they leave is packed
as one file after every one of them.

A part that fails, or is out of time, stops no other. One that ends early gives its time to those
after it, so that the sum of the limits bounds the command.
"""

from __future__ import annotations

import io
import os
import signal
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, TextIO

from rich.console import Console

from benchmarks.accelerator.findings import Findings
from shards.atomic import write_atomic

PACK_BYTES = 15 * 2**20
"""The most that a pack holds; a machine gives files of 16 MiB back."""
_LOG_BYTES = 2**18
_SHOWN_LINES = 12
State = Literal["passed", "failed", "out of time", "skipped"]
console = Console(highlight=False, markup=False, soft_wrap=True)


class PartError(Exception):
    """A part did not pass: how it ended, and why."""

    def __init__(self, state: State, note: str) -> None:
        super().__init__(note)
        self.state: State = state


@dataclass(frozen=True)
class Clock:
    """When a part has to be done."""

    deadline: float
    """`time.monotonic()`."""

    def left_s(self) -> float:
        """Seconds left; may be below 0."""
        return self.deadline - time.monotonic()


@dataclass(frozen=True)
class Part:
    """One part of a command."""

    name: str
    limit_s: float
    run: Callable[[Clock], str]
    """Returns a short note, or raises `PartError`; any other error fails the part, too."""


@dataclass(frozen=True)
class PartOutcome:
    """How a part ended."""

    part: str
    state: State
    seconds: float
    limit_s: float
    note: str


def run_parts(
    parts: Sequence[Part], folder: Path, pack: Path, findings: Findings
) -> list[PartOutcome]:
    """Run all of them; returns how they ended.

    Args:
        parts: in this order.
        folder: in which they leave their files.
        pack: file that gets the folder's content, at first and after every part.
        findings: in that folder; gets the outcomes.
    """
    outcomes: list[PartOutcome] = []
    deadline = time.monotonic()

    def keep() -> None:
        findings.write(outcomes=[asdict(outcome) for outcome in outcomes])
        write_pack(folder, pack)

    try:
        for part in parts:
            keep()
            deadline += part.limit_s
            since = time.monotonic()
            state, note = _run_part(part, Clock(deadline))
            seconds = round(time.monotonic() - since, 1)
            outcomes.append(PartOutcome(part.name, state, seconds, part.limit_s, note))
            console.print(f"{part.name:<24} {state:<12} {seconds:6.1f} s  {note}")
    finally:
        keep()
    return outcomes


def _run_part(part: Part, clock: Clock) -> tuple[State, str]:
    try:
        return "passed", part.run(clock)
    except PartError as error:
        return error.state, str(error)
    except Exception as error:
        return "failed", f"{type(error).__name__}: {error}"


def run_command(
    command: Sequence[str],
    clock: Clock,
    log: Path,
    environment: Mapping[str, str] = os.environ,
    saving_s: float = 1.0,
) -> bool:
    """Run `command`, its output appended to `log`; whether it ended by itself, not by the signal
    that comes `saving_s` before the time is over.

    Raises:
        PartError: if its exit code says that it failed, the end of its output being printed, or if
            it did not end on the signal.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = {**environment, "PYTHONUNBUFFERED": "1", "COLUMNS": "120"}
    with log.open("a", encoding="utf-8") as file:
        print("$", *command, file=file, flush=True)
        with _process_group(command, file, environment) as process:
            code, was_stopped = _wait(process, clock, saving_s)
    if code and not was_stopped:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
        for line in lines[-_SHOWN_LINES:]:
            console.print(f"    {line}")
        raise PartError("failed", f"exit code {code}, see {log.name}")
    return not was_stopped


def _wait(process: subprocess.Popen[bytes], clock: Clock, saving_s: float) -> tuple[int, bool]:
    """Exit code, and whether it took a signal."""
    try:
        return process.wait(max(clock.left_s() - saving_s, 0.0)), False
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
    try:
        return process.wait(max(clock.left_s(), 0.0)), True
    except subprocess.TimeoutExpired:
        raise PartError("out of time", f"killed {saving_s:g} s after the signal") from None


@contextmanager
def _process_group(
    command: Sequence[str], output: TextIO, environment: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """`command` in a process group of its own, of which nothing is left after the block."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        env=environment,
        process_group=0,
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def write_pack(folder: Path, pack: Path) -> None:
    """Write all files under `folder` to the archive `pack`, of logs the end; the largest are left
    out where it would grow beyond `PACK_BYTES`.
    """
    contents = {
        path.relative_to(folder.parent): path.read_bytes()[
            -_LOG_BYTES if path.suffix == ".log" else 0 :
        ]
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    }
    room, kept = PACK_BYTES, []
    for name in sorted(contents, key=lambda name: len(contents[name])):
        room -= len(contents[name]) + 2 * tarfile.BLOCKSIZE
        if room > 0:
            kept.append(name)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name in sorted(kept):
            member = tarfile.TarInfo(str(name))
            member.size = len(contents[name])
            archive.addfile(member, io.BytesIO(contents[name]))
    write_atomic(pack, buffer.getvalue(), is_durable=False)

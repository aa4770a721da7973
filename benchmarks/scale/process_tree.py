"""A process and all that it starts, watched from outside: how much memory each has held, and how to
end all of them at once.

What Ray starts has sessions of its own, so a process group is not enough. Linux only.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_PATIENCE_S = 30.0
_START_TIME = 21  # in /proc/PID/stat, the process's name and number left out


@dataclass
class SeenProcess:
    """One process, alive or not, as it was seen last."""

    pid: int
    started: str
    """With `pid`, which of the machine's processes it is."""
    titles: set[str]
    """What it called itself, such as `ray::IDLE`."""
    peak_mb: float = 0.0
    """The most that it has held, pages of files and shared ones included, by the kernel's count."""
    anonymous_mb: float = 0.0
    """The most private memory of all looks."""


class ProcessTree:
    """The process `root` of this user's and all below it."""

    def __init__(self, root: int) -> None:
        self.root = root
        self.seen: dict[int, SeenProcess] = {}
        self._add(root)

    def look(self) -> list[int]:
        """Note memory, and who is new; returns the numbers of those that are alive."""
        waiting, alive = list(self.seen), list[int]()
        while waiting:
            process = self.seen[waiting.pop()]
            if _start_of(process.pid) != process.started:
                continue
            alive.append(process.pid)
            with suppress(OSError):
                _note(process)
            waiting += [pid for pid in _children(process.pid) if self._add(pid)]
        return alive

    def kill(self) -> None:
        """SIGKILL to the root's process group, then to all that is left; returns when none is.

        Raises:
            TimeoutError: if some do not go.
        """
        self.look()
        with suppress(ProcessLookupError):
            os.killpg(self.root, signal.SIGKILL)
        deadline = time.monotonic() + _PATIENCE_S
        while alive := self.look():
            for pid in alive:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if time.monotonic() > deadline:
                raise TimeoutError(f"processes {alive} are not to be ended")
            time.sleep(0.02)

    def _add(self, pid: int) -> bool:
        """Whether it is alive and was not known."""
        started = _start_of(pid)
        known = self.seen.get(pid)
        if started is None or (known is not None and known.started == started):
            return False
        self.seen[pid] = SeenProcess(pid, started, set())
        return True


def _start_of(pid: int) -> str | None:
    """When a process was started, in the kernel's ticks; None if it has ended."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    state, *numbers = text.rpartition(")")[2].split()
    return None if state in "ZX" else numbers[_START_TIME - 3]


def _children(pid: int) -> list[int]:
    found = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            found += [int(word) for word in path.read_text().split()]
    return found


def _note(process: SeenProcess) -> None:
    folder = Path(f"/proc/{process.pid}")
    command = (folder / "cmdline").read_bytes().split(b"\0")[0]
    process.titles.add(command.decode(errors="replace").strip())
    sizes = _sizes_mb((folder / "status").read_text(encoding="utf-8", errors="replace"))
    process.peak_mb = max(process.peak_mb, sizes.get("VmHWM", 0.0))
    process.anonymous_mb = max(process.anonymous_mb, sizes.get("RssAnon", 0.0))


def _sizes_mb(status: str) -> Mapping[str, float]:
    """What a process's `status` has in kB, in MiB."""
    fields = (line.partition(":")[::2] for line in status.splitlines() if line.endswith(" kB"))
    return {name: int(value.split()[0]) / 1024 for name, value in fields}

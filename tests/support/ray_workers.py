"""Processes of this machine's Ray, which tests kill."""

from __future__ import annotations

import os
import signal
from pathlib import Path


def workers_of(driver: int, title: str) -> list[int]:
    """Processes of this driver's Ray that are at work now on what is called `title`."""
    found = []
    for status in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            name = status.read_bytes()
            if name.startswith(b"ray::") and title.encode() in name:
                pid = int(status.parent.name)
                if driver in _ancestors(pid):
                    found.append(pid)
        except OSError:
            continue
    return found


def kill_worker(driver: int, title: str) -> bool:
    """Whether there was one at work."""
    victims = workers_of(driver, title)
    for victim in victims[:1]:
        os.kill(victim, signal.SIGKILL)
    return bool(victims)


def _ancestors(pid: int) -> list[int]:
    chain = []
    while pid > 1:
        pid = int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
        chain.append(pid)
    return chain

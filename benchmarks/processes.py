"""Turns in processes of their own, the time that they take and the memory that they hold."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


def in_process(task: Callable[..., T], *arguments: Any) -> T:
    """Result of `task(*arguments)` in a fresh process."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context) as executor:
        return executor.submit(task, *arguments).result()


def timed(task: Callable[[], T]) -> tuple[T, float]:
    """What `task` returns, and the seconds that it took."""
    began_at = time.perf_counter()
    result = task()
    return result, time.perf_counter() - began_at


def resident_mb() -> float:
    """Memory of this process now, in MiB, shared pages included."""
    return _status_mb("VmRSS")


def peak_mb() -> float:
    """The most that this process has held so far."""
    return _status_mb("VmHWM")


def _status_mb(name: str) -> float:
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    (value,) = (line.split()[1] for line in lines if line.startswith(f"{name}:"))
    return int(value) / 1024

"""What the benchmarks share: options, interleaved timing, turns in processes of their own, tables.

Rivals are timed turn by turn on the same machine, so that a noisy neighbour or a clock that drops
slows all of them; figures are medians over the turns.
"""

from __future__ import annotations

import argparse
import multiprocessing
import platform
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from rich.console import Console
from rich.table import Table

from pipeline.config.file import load_config
from pipeline.config.root import Config
from pipeline.engine.device import choose_device

ROOT = Path(__file__).resolve().parents[1]
OURS = "ours"
TableCell = str | float
T = TypeVar("T")
console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)


@dataclass(frozen=True)
class ResultTable:
    """What was found; columns of numbers are right-aligned."""

    title: str
    headings: tuple[str, ...]
    rows: Sequence[tuple[TableCell, ...]]

    def by_heading(self) -> list[dict[str, TableCell]]:
        """Every row's cells by their headings."""
        return [dict(zip(self.headings, row, strict=True)) for row in self.rows]

    def show(self) -> None:
        """Print it."""
        table = Table(title=self.title)
        for heading, cells in zip(self.headings, zip(*self.rows, strict=True), strict=True):
            is_text = all(isinstance(cell, str) for cell in cells)
            table.add_column(heading, justify="left" if is_text else "right")
        for row in self.rows:
            table.add_row(*map(shown, row))
        console.print(table)


def against_rivals(what: str, unit: str, rates: Mapping[str, float]) -> list[tuple[TableCell, ...]]:
    """A row of `tabulate_ratios` for every rival of `OURS` in `rates`, or one without."""
    ours = rates[OURS]
    rivals = {name: rate for name, rate in rates.items() if name != OURS}
    rows: list[tuple[TableCell, ...]] = [
        (what, f"{shown(ours)} {unit}", name, rate, f"{ours / rate:.2f} x")
        for name, rate in rivals.items()
    ]
    return rows or [(what, f"{shown(ours)} {unit}", "", "", "")]


def tabulate_ratios(
    title: str, device: torch.device, rows: Sequence[tuple[TableCell, ...]]
) -> ResultTable:
    """Rates beside those of rivals; a ratio above 1 says that ours is faster."""
    on = describe_device(device)
    headings = ("", OURS, "rival", "rival's", "ratio")
    return ResultTable(f"{title} – {on['name']}, {on['precision']}", headings, rows)


def shown(value: TableCell) -> str:
    """Text as it is, a number with three digits or more."""
    if isinstance(value, str):
        return value
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def common_parser(description: str) -> argparse.ArgumentParser:
    """Options that every benchmark takes, so that one set of `ARGS` fits all of them."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--cifar", action="store_true", help="size of configs/cifar10.yaml")
    parser.add_argument("--batch", type=int, help="images per forward pass, or global batch")
    parser.add_argument("--repeats", type=int, default=5, help="turns; figures are medians")
    parser.add_argument("--threads", type=int, help="CPU threads")
    return parser


def prepare(arguments: argparse.Namespace) -> tuple[Config, torch.device]:
    """Set threads; returns the config whose sizes are measured, and the device."""
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    name = "cifar10.yaml" if arguments.cifar else "digits.yaml"
    return load_config(ROOT / "configs" / name), choose_device("auto")


def uses_tf32() -> bool:
    """Whether convolutions on a GPU use TF32; torch's default is that they do."""
    return bool(_convolutions().fp32_precision == "tf32")


@contextmanager
def full_float32() -> Iterator[None]:
    """Convolutions without TF32, as `make generate` renders."""
    before = _convolutions().fp32_precision
    _convolutions().fp32_precision = "ieee"
    try:
        yield
    finally:
        _convolutions().fp32_precision = before


def _convolutions() -> Any:
    return torch.backends.cudnn.conv  # type: ignore[attr-defined]


def synchronise(device: torch.device) -> None:
    """Wait for the GPU, so that a clock read after this has seen its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def repeat(task: Callable[[], object], times: int) -> None:
    """Call `task` so often, keeping nothing of it."""
    for _ in range(times):
        task()


def timed(task: Callable[[], T], device: torch.device | None = None) -> tuple[T, float]:
    """What `task` returns, and the seconds that it took, the work of a GPU `device` included."""
    if device is not None:
        synchronise(device)
    since = time.perf_counter()
    result = task()
    if device is not None:
        synchronise(device)
    return result, time.perf_counter() - since


def interleave(
    tasks: Mapping[str, Callable[[], object]],
    repeats: int,
    device: torch.device,
    warm_up: int = 1,
    choose: Callable[[list[float]], float] = statistics.median,
) -> dict[str, float]:
    """Median seconds of each task over `repeats` turns, every turn running each task once.

    Args:
        tasks: name -> what to time.
        repeats: turns, at least 1.
        device: waited for before and after each task.
        warm_up: untimed turns before: allocators, algorithm choice, page cache.
        choose: what becomes of the turns' seconds.
    """
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    for turn in range(warm_up + repeats):
        for name, task in tasks.items():
            took_s = timed(task, device)[1]  # and let go of what it returned
            if turn >= warm_up:
                seconds[name].append(took_s)
    return {name: choose(found) for name, found in seconds.items()}


def take_turns(
    names: Iterable[str], repeats: int, turn: Callable[[str], Sequence[float]]
) -> dict[str, list[float]]:
    """Medians of what `turn` finds of each name over `repeats`, each of which has every name once:
    for turns that time themselves, as those in processes of their own do.
    """
    found: dict[str, list[Sequence[float]]] = {name: [] for name in names}
    for _ in range(repeats):
        for name, turns in found.items():
            turns.append(turn(name))
    return {
        name: [statistics.median(values) for values in zip(*turns, strict=True)]
        for name, turns in found.items()
    }


def in_process(task: Callable[..., T], *arguments: Any) -> T:
    """Result of `task(*arguments)` in a fresh process."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context) as executor:
        return executor.submit(task, *arguments).result()


def resident_mb() -> float:
    """Memory of this process now, in MiB, shared pages included."""
    return _status_mb("VmRSS")


def peak_mb() -> float:
    """The most that this process has held so far."""
    return _status_mb("VmHWM")


def anonymous_mb() -> float:
    """Memory of this process now without pages of files, which the kernel can take back."""
    return _status_mb("RssAnon")


def mapped_mb() -> float:
    """Private memory that this process may write to, whether it has or not."""
    return _status_mb("VmData")


def _status_mb(name: str) -> float:
    (line,) = _lines("/proc/self/status", name)
    return int(line.split()[0]) / 1024


def _lines(path: str, name: str) -> list[str]:
    """What stands behind `name:` in a file of /proc; nothing where there is no such file."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    return [line.partition(":")[2].strip() for line in lines if line.startswith(name)]


@contextmanager
def waits_raise() -> Iterator[None]:
    """Within the block, whatever makes the host wait for a GPU raises a RuntimeError."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the mode is a prototype
        try:
            torch.cuda.set_sync_debug_mode("error")
            yield
        finally:
            torch.cuda.set_sync_debug_mode("default")


def describe_device(device: torch.device) -> dict[str, Any]:
    """Name of the processor, threads, and the precision of convolutions."""
    if device.type == "cuda":
        precision = "float32, TF32 in convolutions" if uses_tf32() else "float32"
        name = torch.cuda.get_device_name(device)
    else:
        precision = "float32"
        names = _lines("/proc/cpuinfo", "model name")
        name = names[0] if names else platform.processor() or platform.machine()
    return {
        "type": device.type,
        "name": name,
        "cpu_threads": torch.get_num_threads(),
        "precision": precision,
    }

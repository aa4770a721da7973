"""What the benchmarks share: interleaved timing, common options, and the description of a run.

Rivals are timed turn by turn in one process, so that a noisy neighbour or a clock that drops slows
all of them; figures are medians over the turns.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from pipeline.config.file import load_config
from pipeline.config.root import Config
from pipeline.records.record import current_commit, installed_versions
from shards.atomic import write_atomic

_CONFIGS = Path(__file__).resolve().parent.parent / "configs"


@dataclass(frozen=True)
class Figure:
    """One row of a table: a rate, and its ratio to the rival's where there is one."""

    name: str
    rate: float
    unit: str
    rival: str | None = None
    rival_rate: float | None = None

    @property
    def ratio(self) -> float | None:
        """How many times the rival's rate; above 1 is faster."""
        return None if self.rival_rate is None else self.rate / self.rival_rate


@dataclass(frozen=True)
class ResultTable:
    """Results that are more than a rate and its ratio; numbers are right-aligned."""

    title: str
    headings: tuple[str, ...]
    rows: list[tuple[str | float, ...]]


@dataclass(frozen=True)
class BenchmarkRun:
    """Everything a benchmark found."""

    benchmark: str
    device: torch.device
    figures: list[Figure]
    details: dict[str, Any] = field(default_factory=dict)
    """Plain JSON-able facts: sizes, shares, operation counts, largest difference."""
    tables: list[ResultTable] = field(default_factory=list)


def common_parser(description: str) -> argparse.ArgumentParser:
    """Options that every benchmark takes, so that one set of `ARGS` fits all of them."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--cifar", action="store_true", help="size of configs/cifar10.yaml")
    parser.add_argument("--batch", type=int, help="images per forward pass, or global batch")
    parser.add_argument("--repeats", type=int, default=5, help="turns; figures are medians")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--threads", type=int, help="CPU threads")
    parser.add_argument("--no-tf32", action="store_true", help="full float32 in convolutions")
    parser.add_argument(
        "--json", type=Path, help="file, or folder that gets BENCHMARK.json; also written there"
    )
    return parser


def prepare(arguments: argparse.Namespace) -> tuple[Config, torch.device]:
    """Set threads and precision; returns the config whose sizes are measured, and the device."""
    from pipeline.engine.device import choose_device

    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    device = choose_device(arguments.device)
    if arguments.no_tf32:
        set_tf32(False)
    config = load_config(_CONFIGS / ("cifar10.yaml" if arguments.cifar else "digits.yaml"))
    return config, device


def set_tf32(enabled: bool) -> None:
    """TF32 or full float32 in cuDNN's convolutions; matrix products stay float32."""
    convolutions: Any = torch.backends.cudnn.conv  # type: ignore[attr-defined]
    convolutions.fp32_precision = "tf32" if enabled else "ieee"


def uses_tf32() -> bool:
    """Whether convolutions on a GPU use TF32; torch's default is that they do."""
    convolutions: Any = torch.backends.cudnn.conv  # type: ignore[attr-defined]
    return bool(convolutions.fp32_precision == "tf32")


@contextmanager
def full_float32() -> Iterator[None]:
    """Convolutions without TF32, as `make generate` renders."""
    tf32 = uses_tf32()
    set_tf32(False)
    try:
        yield
    finally:
        set_tf32(tf32)


def synchronise(device: torch.device) -> None:
    """Wait for the GPU, so that a clock read after this has seen its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def time_call(task: Callable[[], object], device: torch.device) -> float:
    """Seconds of one call, the GPU's work included."""
    synchronise(device)
    start = time.perf_counter()
    task()
    synchronise(device)
    return time.perf_counter() - start


def time_turns(
    tasks: Mapping[str, Callable[[], object]], repeats: int, device: torch.device, warm_up: int = 1
) -> dict[str, list[float]]:
    """Seconds of each task in each of `repeats` turns, every turn running each task once.

    Args:
        tasks: name -> what to time.
        repeats: turns, at least 1.
        device: waited for before and after each task.
        warm_up: untimed turns before: allocators, algorithm choice, page cache.
    """
    for _ in range(warm_up):
        for task in tasks.values():
            time_call(task, device)
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(repeats):
        for name, task in tasks.items():
            seconds[name].append(time_call(task, device))
    return seconds


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


def interleave(
    tasks: Mapping[str, Callable[[], object]], repeats: int, device: torch.device, warm_up: int = 1
) -> dict[str, float]:
    """Median seconds of each task over the turns of `time_turns`."""
    seconds = time_turns(tasks, repeats, device, warm_up)
    return {name: statistics.median(values) for name, values in seconds.items()}


def describe_device(device: torch.device) -> dict[str, Any]:
    """Name of the processor, threads, and the precision of convolutions."""
    if device.type == "cuda":
        precision = "float32, TF32 in convolutions" if uses_tf32() else "float32"
        name = torch.cuda.get_device_name(device)
    else:
        precision, name = "float32", _cpu_name()
    return {
        "type": device.type,
        "name": name,
        "cpu_threads": torch.get_num_threads(),
        "precision": precision,
    }


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def publish(run: BenchmarkRun, json_path: Path | None, started: float) -> None:
    """Print the tables; with `json_path` leave there too what was found, on what, by which code."""
    device = describe_device(run.device)
    table = Table(title=f"{run.benchmark} – {device['name']}, {device['precision']}")
    for heading in ("", "rate", "rival", "rival's rate", "ratio"):
        table.add_column(heading, justify="left" if heading in ("", "rival") else "right")
    for figure in run.figures:
        rival = ("", "", "")
        if figure.rival is not None and figure.rival_rate is not None:
            rival = (figure.rival, f"{figure.rival_rate:,.1f}", f"{figure.ratio:.2f} x")
        table.add_row(figure.name, f"{figure.rate:,.1f} {figure.unit}", *rival)
    console = Console(width=120 if not sys.stdout.isatty() else None, highlight=False)
    console.print(table)
    for results in run.tables:
        console.print(_as_rich(results))
    for name, value in run.details.items():
        console.print(f"{name}: {_plain(value)}", soft_wrap=True)
    if json_path is None:
        return
    is_folder = json_path.is_dir() or json_path.suffix != ".json"
    path = json_path / f"{run.benchmark}.json" if is_folder else json_path
    content = {
        "figures": [{**asdict(figure), "ratio": figure.ratio} for figure in run.figures],
        "tables": {
            results.title: [dict(zip(results.headings, row, strict=True)) for row in results.rows]
            for results in run.tables
        },
        "details": run.details,
        "command": " ".join(["python", "-m", f"benchmarks.{run.benchmark}", *sys.argv[1:]]),
        "commit": current_commit(),
        "versions": installed_versions(),
        "device": device,
        "seconds": round(time.perf_counter() - started, 1),
    }
    write_atomic(path, json.dumps(content, indent=2) + "\n")
    console.print(f"written to {path}", soft_wrap=True)


def _as_rich(results: ResultTable) -> Table:
    table = Table(title=results.title)
    for index, heading in enumerate(results.headings):
        is_text = all(isinstance(row[index], str) for row in results.rows)
        table.add_column(heading, justify="left" if is_text else "right", no_wrap=index == 0)
    for row in results.rows:
        table.add_row(*(cell if isinstance(cell, str) else _rounded(cell) for cell in row))
    return table


def _rounded(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_plain(part)}" for name, part in value.items())
    return f"{value:.3g}" if isinstance(value, float) else str(value)

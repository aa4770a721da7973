"""`python -m benchmarks.speed.stream`: reading shuffled samples for training, with three rivals.

Two kinds of samples, each image with its pooled features: `raw` is CIFAR's size (3×32×32 uint8 and
2048 float16, 20,480 of them), `jpg` a larger one (3×256×256 JPEG of some 23 KB and 2432 float16,
2,048 of them). Each tool reads the same samples in its own format (`stream_tools.py`) from a local
disk and a warm page cache, on one core and on two. A turn is a fresh process pinned to its cores:
it opens the samples (seconds to the first batch, imports left out), reads the rest of a pass
(memory), then whole passes for two seconds or more (samples/s). The tools take turns; figures are
medians. A rival that loader workers slow down counts, on two cores, with its rate on one.

`webdataset` comes with the project, the other rivals do not and are left out where they are
missing: `pip install mosaicml-streaming litdata`, best in another environment, as they hold numpy
back.
"""

from __future__ import annotations

import multiprocessing
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from benchmarks.measure import BenchmarkRun, Figure, common_parser, publish
from benchmarks.processes import in_process
from benchmarks.speed.stream_samples import KINDS, Kind, write_pool
from benchmarks.speed.stream_tools import TOOLS, Batch, Tool

BATCH = 256  # the synthetic half of the paper's batch
_MIN_SECONDS = 2.0
_SAMPLING_S = 0.02


@dataclass(frozen=True)
class Turn:
    """What one process found."""

    samples_per_s: float
    samples_per_cpu_s: float
    """Per second of processor time, workers included: what a busy machine does not change much."""
    first_batch_ms: float
    grown_mb: float
    """Memory of its own, workers included, at most, above what it had before; pages of mapped files
    are not its own.
    """
    mapped_mb: float
    """Likewise, of mapped files."""


def take_turn(tool: str, kind: Kind, folder: Path, batch: int, cores: int) -> Turn:
    """Read the samples in `folder` with `tool`, on so many cores; runs in a process of its own."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    torch.set_num_threads(1)
    multiprocessing.set_start_method("fork", force=True)  # of loader workers: the quick way
    for package in ("torchvision.io", *TOOLS[tool].packages):
        import_module(package)
    memory_before = _memory_mb()
    started = time.perf_counter()
    passes = TOOLS[tool].open(kind, folder, batch, cores)
    batches = passes(0)
    _check(next(batches), kind, batch)
    first_batch_ms = 1000 * (time.perf_counter() - started)
    with _watched_memory(memory_before) as peaks:
        for _ in batches:
            pass
    num_samples, pass_index, cpu_s, started = 0, 1, _cpu_s(), time.perf_counter()
    while (elapsed := time.perf_counter() - started) < _MIN_SECONDS:
        num_samples += sum(len(images) for images, _ in passes(pass_index))
        pass_index += 1
    cpu_s = _cpu_s() - cpu_s
    return Turn(num_samples / elapsed, num_samples / cpu_s, first_batch_ms, *peaks)


def _check(batch: Batch, kind: Kind, batch_size: int) -> None:
    images, features = batch
    size = kind.resolution
    found = (images.dtype, tuple(images.shape), features.dtype, tuple(features.shape))
    expected = (
        torch.uint8,
        (batch_size, 3, size, size),
        torch.float16,
        (batch_size, kind.num_features),
    )
    if found != expected:
        raise ValueError(f"a batch of {found} instead of {expected}")


@contextmanager
def _watched_memory(before: list[float]) -> Iterator[list[float]]:
    """Yields a list that holds, once the block has ended, by how many MB `_memory_mb` was above
    `before` at most.
    """
    peaks, has_ended = [0.0, 0.0], threading.Event()

    def watch() -> None:
        while not has_ended.wait(_SAMPLING_S):
            note()

    def note() -> None:
        grown = [now - then for now, then in zip(_memory_mb(), before, strict=True)]
        peaks[:] = [max(pair) for pair in zip(peaks, grown, strict=True)]

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    yield peaks
    has_ended.set()
    thread.join()
    note()


def _memory_mb() -> list[float]:
    """Own memory and that of mapped files, pages that processes share counted once."""
    own = mapped = 0
    for rollup in _read_of_processes("smaps_rollup"):
        sizes = {line.split(":")[0]: line.split()[1] for line in rollup.splitlines()[1:]}
        own += int(sizes["Pss_Anon"]) + int(sizes["Pss_Shmem"])
        mapped += int(sizes["Pss_File"])
    return [own / 1024, mapped / 1024]


def _cpu_s() -> float:
    """Processor time of this process and its children so far."""
    fields = [text.rpartition(")")[2].split() for text in _read_of_processes("stat")]
    return sum(int(field[11]) + int(field[12]) for field in fields) / os.sysconf("SC_CLK_TCK")


def _read_of_processes(name: str) -> Iterator[str]:
    """`/proc/…/name` of this process and all below it."""
    pids = [os.getpid()]
    while pids:
        process = Path(f"/proc/{pids.pop()}")
        try:
            content = (process / name).read_text(encoding="utf-8")
            children = [path.read_text() for path in process.glob("task/*/children")]
        except OSError:  # it has just ended
            continue
        pids += [int(pid) for text in children for pid in text.split()]
        yield content


def benchmark(
    kinds: Sequence[Kind],
    tools: Sequence[Tool],
    cores: Sequence[int],
    batch: int,
    repeats: int,
    folder: Path,
) -> BenchmarkRun:
    """Store the samples of every kind for every tool under `folder`, then let them take turns."""
    figures: list[Figure] = []
    details: dict[str, Any] = {"batch": batch, "repeats": repeats}
    for kind in kinds:
        _store(kind, tools, folder / kind.name)
        best: dict[str, float] = {}
        for num_cores in sorted(cores):
            turns: dict[str, list[Turn]] = {tool.name: [] for tool in tools}
            for _ in range(repeats):
                for name, found in turns.items():
                    place = folder / kind.name / name
                    found.append(in_process(take_turn, name, kind, place, batch, num_cores))
            rates = _medians(turns, "samples_per_s")
            title = f"{kind.name}, {num_cores} core{'s' * (num_cores > 1)}"
            ours = rates.pop("ours")
            best = {name: max(rate, best.get(name, 0.0)) for name, rate in rates.items()}
            figures += [Figure(title, ours, "samples/s", *rival) for rival in best.items()]
            figures += [] if best else [Figure(title, ours, "samples/s")]
            details |= {
                f"{title}: samples per second of processor time": _medians(
                    turns, "samples_per_cpu_s"
                ),
                f"{title}: milliseconds to the first batch": _medians(turns, "first_batch_ms"),
                f"{title}: MB of memory grown": _medians(turns, "grown_mb"),
                f"{title}: MB of files mapped": _medians(turns, "mapped_mb"),
            }
    return BenchmarkRun("stream", torch.device("cpu"), figures, details)


def _store(kind: Kind, tools: Sequence[Tool], folder: Path) -> None:
    """The samples of `kind` for every tool, in a folder each."""
    write_pool(kind, folder / "ours")
    for tool in tools:
        if tool.convert is not None:
            (folder / tool.name).mkdir()
            in_process(tool.convert, kind, folder / "ours", folder / tool.name)


def _medians(turns: dict[str, list[Turn]], field: str) -> dict[str, float]:
    return {
        name: statistics.median(getattr(turn, field) for turn in found)
        for name, found in turns.items()
    }


def main(argv: list[str] | None = None) -> BenchmarkRun:
    """Run the command line; `argv` defaults to the process's."""
    started = time.perf_counter()
    parser = common_parser("Reading shuffled samples for training, and the usual tools beside it.")
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS))
    parser.add_argument("--tools", nargs="+", choices=list(TOOLS), default=list(TOOLS))
    parser.add_argument("--cores", type=int, nargs="+", default=[1, 2], help="numbers of cores")
    parser.add_argument("--num-samples", type=int, help="of each kind, in 8 shards")
    parser.set_defaults(repeats=3)
    arguments = parser.parse_args(argv)
    os.environ["OMP_NUM_THREADS"] = "1"  # of the turns' processes
    kinds = [KINDS[name] for name in arguments.kinds]
    if arguments.num_samples:
        size = arguments.num_samples
        kinds = [kind.resized(size, -(-size // 8)) for kind in kinds]
    tools = []
    for tool in TOOLS.values():
        if not tool.is_installed:
            print(f"{tool.name}: not installed, goes on without it")
        elif tool.name in arguments.tools or tool.name == "ours":
            tools.append(tool)
    batch = arguments.batch or BATCH
    with tempfile.TemporaryDirectory() as folder:
        run = benchmark(kinds, tools, arguments.cores, batch, arguments.repeats, Path(folder))
    publish(run, arguments.json, started)
    return run


if __name__ == "__main__":
    main()

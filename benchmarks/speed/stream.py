"""`python -m benchmarks.speed.stream`: reading shuffled samples for training, with three rivals.

Two kinds of samples, each image with its pooled features: `raw` is CIFAR's size (3×32×32 uint8 and
2048 float16, 20,480 of them), `jpg` a larger one (3×256×256 JPEG of some 23 KB and 2432 float16,
2,048 of them). Each tool reads the same samples in its own format (`stream_tools.py`) from a local
disk and a warm page cache, on one core and on two. A turn is a fresh process pinned to its cores:
it opens the samples (time to the first batch, imports left out), reads the rest of a pass (memory),
then whole passes for two seconds or more (samples/s). The tools take turns; figures are medians. A
rival that loader workers slow down counts, on two cores, with its rate on one.

`webdataset` comes with the project, the other rivals do not and are left out where they are
missing: `pip install mosaicml-streaming litdata`, best in another environment, as they hold numpy
back.
"""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import torch

from benchmarks.measure import (
    OURS,
    ResultTable,
    TableCell,
    against_rivals,
    common_parser,
    in_process,
    tabulate_ratios,
    take_turns,
)
from benchmarks.speed.stream_samples import KINDS, Kind
from benchmarks.speed.stream_tools import TOOLS, StreamedBatch, Tool

BATCH = 256  # the synthetic half of the paper's batch
CORES = (1, 2)
_MIN_SECONDS = 2.0
_SAMPLING_S = 0.02


class Turn(NamedTuple):
    """What one process found, or the medians of several."""

    samples_per_s: float
    first_batch_ms: float
    grown_mb: float
    """Memory of its own, workers included, at most, above what it had before; pages of mapped files
    are not its own.
    """


def take_turn(tool: str, kind: Kind, folder: Path, batch: int, cores: int) -> Turn:
    """Read the samples in `folder` with `tool`, on so many cores; runs in a process of its own."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    torch.set_num_threads(1)
    multiprocessing.set_start_method("fork", force=True)  # of loader workers: the quick way
    for package in ("torchvision.io", TOOLS[tool].package):
        import_module(package)
    memory_before = _memory_mb()
    started = time.perf_counter()
    passes = TOOLS[tool].open(kind, folder, batch, cores)
    batches = passes(0)
    _check(next(batches), kind, batch)
    first_batch_ms = 1000 * (time.perf_counter() - started)
    with _watched_memory() as seen:
        for _ in batches:
            pass
    num_samples, index, started = 0, 1, time.perf_counter()
    while (elapsed := time.perf_counter() - started) < _MIN_SECONDS:
        num_samples += sum(len(images) for images, _ in passes(index))
        index += 1
    return Turn(num_samples / elapsed, first_batch_ms, max(seen) - memory_before)


def _check(batch: StreamedBatch, kind: Kind, batch_size: int) -> None:
    found = [(part.dtype, tuple(part.shape)) for part in batch]
    images = (torch.uint8, (batch_size, 3, kind.resolution, kind.resolution))
    expected = [images, (torch.float16, (batch_size, sum(kind.widths)))]
    if found != expected:
        raise ValueError(f"a batch of {found} instead of {expected}")


@contextmanager
def _watched_memory() -> Iterator[list[float]]:
    """Yields a list that grows by `_memory_mb` all the time, at last when the block has ended."""
    seen, has_ended = [0.0], threading.Event()

    def watch() -> None:
        while not has_ended.wait(_SAMPLING_S):
            seen.append(_memory_mb())

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    yield seen
    has_ended.set()
    thread.join()
    seen.append(_memory_mb())


def _memory_mb() -> float:
    """Memory of this process and all below it, pages that they share counted once."""
    total, pids = 0, [os.getpid()]
    while pids:
        process = Path(f"/proc/{pids.pop()}")
        try:
            rollup = (process / "smaps_rollup").read_text(encoding="utf-8").splitlines()[1:]
            children = [path.read_text() for path in process.glob("task/*/children")]
        except OSError:  # it has just ended
            continue
        sizes = {line.split(":")[0]: line.split()[1] for line in rollup}
        total += int(sizes["Pss_Anon"]) + int(sizes["Pss_Shmem"])
        pids += [int(pid) for text in children for pid in text.split()]
    return total / 1024


def benchmark(
    kinds: Sequence[Kind],
    tools: Sequence[Tool],
    cores: Sequence[int],
    batch: int,
    repeats: int,
    folder: Path,
) -> list[ResultTable]:
    """Store the samples of every kind for every tool under `folder`, then let them take turns."""
    ratios: list[tuple[TableCell, ...]] = []
    others: list[tuple[TableCell, ...]] = []
    for kind in kinds:
        _store(kind, tools, folder / kind.name)
        best: dict[str, float] = {}
        for num_cores in sorted(cores):
            turn = partial(
                _turn, kind=kind, folder=folder / kind.name, batch=batch, cores=num_cores
            )
            what = f"{kind.name}, {num_cores} core{'s' * (num_cores > 1)}"
            for name, found in take_turns([tool.name for tool in tools], repeats, turn).items():
                medians = Turn(*found)
                is_slower = name != OURS and medians.samples_per_s < best.get(name, 0.0)
                best[name] = best[name] if is_slower else medians.samples_per_s
                others.append((what, name, medians.first_batch_ms, medians.grown_mb))
            ratios += against_rivals(what, "samples/s", best)
    headings = ("", "", "ms to the first batch", "MB of memory grown")
    title = f"stream, batch {batch}"
    return [
        tabulate_ratios(title, torch.device("cpu"), ratios),
        ResultTable("start and memory", headings, others),
    ]


def _turn(name: str, kind: Kind, folder: Path, batch: int, cores: int) -> Turn:
    return in_process(take_turn, name, kind, folder / name, batch, cores)


def _store(kind: Kind, tools: Sequence[Tool], folder: Path) -> None:
    """The samples of `kind` for every tool, in a folder each."""
    kind.write(folder / OURS)
    for tool in tools:
        if tool.convert is not None:
            (folder / tool.name).mkdir()
            in_process(tool.convert, kind, folder / OURS, folder / tool.name)


def main() -> None:
    """Run the command line."""
    parser = common_parser("Reading shuffled samples for training, and the usual tools beside it.")
    parser.add_argument("--num-samples", type=int, help="of each kind, in 8 shards")
    parser.set_defaults(repeats=3)
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"  # of the turns' processes
    kinds = list(KINDS.values())
    if arguments.num_samples:
        kinds = [kind.resized(arguments.num_samples) for kind in kinds]
    tools = [tool for tool in TOOLS.values() if tool.is_installed]
    for name in TOOLS.keys() - {tool.name for tool in tools}:
        print(f"{name}: not installed, goes on without it")
    batch = arguments.batch or BATCH
    with tempfile.TemporaryDirectory() as folder:
        tables = benchmark(kinds, tools, CORES, batch, arguments.repeats, Path(folder))
    for table in tables:
        table.show()


if __name__ == "__main__":
    main()

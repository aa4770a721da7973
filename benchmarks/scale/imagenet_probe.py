"""`python -m benchmarks.scale.imagenet_probe`: linear probe and kNN of ImageNet's size under a
limit on memory.

1,281,167 rows of 2048 dimensions in 1,000 classes, class means and noise, are written to disk in
blocks; then the probe is fitted and rows are classified by their neighbours, each in a process of
its own that the kernel refuses more than 2 GB of private memory (pages of files, which it can take
back, do not count). On a few CPU cores take `--excess 0.01`, which ends every fit of the probe
early, and fewer queries.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.progress import Progress

from benchmarks.measure import ResultTable, anonymous_mb, in_process, mapped_mb, timed
from pipeline.engine.device import choose_device
from pipeline.eval.logistic import penalty_search
from pipeline.eval.probes.linear_probe import fit_linear_probe
from pipeline.measures.knn import knn_classify
from pipeline.samples.seeding import numpy_generator
from pipeline.student.vectors import Vectors

PARTS = ("knn", "linear")
_BLOCK_ROWS = 8192
_SPREAD = 7.0  # between the means of two classes, in deviations of the noise


@dataclass(frozen=True)
class Turn:
    """What one classifier took."""

    seconds: float
    anonymous_mb: float
    """The process's private memory at most, seen ten times a second."""
    top1: float


@dataclass(frozen=True)
class Size:
    """Of what is drawn."""

    num_rows: int
    num_dims: int
    num_classes: int
    num_queries: int


def write_rows(folder: Path, size: Size) -> None:
    """`train-*.npy`, `test-*.npy`, float32, and the labels of both; what is there already stays."""
    folder.mkdir(parents=True, exist_ok=True)
    means = numpy_generator(0, "benchmarks/means").standard_normal(
        (size.num_classes, size.num_dims), np.float32
    )
    means *= _SPREAD / (2 * size.num_dims) ** 0.5
    for split, count in (("train", size.num_rows), ("test", size.num_queries)):
        labels = []
        for index, start in enumerate(range(0, count, _BLOCK_ROWS)):
            generator = numpy_generator(0, f"benchmarks/{split}", index)
            num_rows = min(_BLOCK_ROWS, count - start)
            labels.append(generator.integers(size.num_classes, size=num_rows))
            path = folder / f"{split}-{index:05}.npy"
            if not path.exists():
                rows = generator.standard_normal((num_rows, size.num_dims), np.float32)
                rows += means[labels[-1]]
                np.save(path, rows)
        np.save(folder / f"{split}.npy", np.concatenate(labels))


def read_rows(folder: Path, split: str) -> tuple[Vectors, np.ndarray]:
    """What `write_rows` has left, memory-mapped, and its labels."""
    blocks = [np.load(path, mmap_mode="r") for path in sorted(folder.glob(f"{split}-*.npy"))]
    return Vectors(blocks), np.load(folder / f"{split}.npy")


def take_probe(folder: Path, limit_bytes: int, excess: float | None) -> Turn:
    """The linear probe; in a process of its own."""
    if excess is not None:
        penalty_search.CHOOSING = penalty_search.FINAL = excess

    def classify(train: Vectors, labels: np.ndarray, test: Vectors) -> np.ndarray:
        with Progress() as bar:
            task = bar.add_task("rows", total=None)
            probe = fit_linear_probe(
                train,
                labels,
                seed=0,
                device=choose_device("auto"),
                report=lambda done, total: bar.update(task, completed=done, total=total),
            )
        print(f"C = {probe.fit.C:g}, excess {probe.fit.excess:.1e}: {probe.protocol}")
        return probe.predict(test)

    return _take(folder, limit_bytes, classify)


def take_knn(folder: Path, limit_bytes: int) -> Turn:
    """The 20 nearest neighbours; in a process of its own."""

    def classify(train: Vectors, labels: np.ndarray, test: Vectors) -> np.ndarray:
        return knn_classify(train, labels, test, k=20, temperature=0.07)

    return _take(folder, limit_bytes, classify)


def _take(
    folder: Path,
    limit_bytes: int,
    classify: Callable[[Vectors, np.ndarray, Vectors], np.ndarray],
) -> Turn:
    # The limit counts what is mapped; of the libraries' 1 GB and more most is never touched.
    untouched = int(2**20 * (mapped_mb() - anonymous_mb()))
    resource.setrlimit(resource.RLIMIT_DATA, (limit_bytes + untouched,) * 2)
    (train, labels), (test, wanted) = (read_rows(folder, split) for split in ("train", "test"))
    with _peak_watched() as peak:
        predicted, seconds = timed(lambda: classify(train, labels, test))
    return Turn(seconds, max(peak), 100 * float(np.mean(predicted == wanted)))


@contextmanager
def _peak_watched() -> Iterator[list[float]]:
    found, is_over = [anonymous_mb()], threading.Event()

    def watch() -> None:
        while not is_over.wait(0.1):
            found[0] = max(found[0], anonymous_mb())

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield found
    finally:
        is_over.set()
        thread.join()


def compare(
    folder: Path, size: Size, limit_bytes: int, parts: Sequence[str], excess: float | None
) -> ResultTable:
    """Time, memory and top-1 of `parts`."""
    _, seconds = timed(lambda: write_rows(folder, size))
    print(f"{time.strftime('%H:%M')} written in {seconds:.0f} s", flush=True)
    turns: dict[str, Turn] = {}
    if "knn" in parts:
        turns["knn"] = in_process(take_knn, folder, limit_bytes)
    if "linear" in parts:
        turns["linear"] = in_process(take_probe, folder, limit_bytes, excess)
    rows = [(name, turn.seconds, turn.anonymous_mb, turn.top1) for name, turn in turns.items()]
    title = f"{size.num_rows:,} x {size.num_dims}, {size.num_classes} classes"
    title += f", {size.num_queries:,} queries, limit {limit_bytes / 1e9:g} GB"
    return ResultTable(title, ("", "seconds", "private memory, MB", "top-1 %"), rows)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Probe and kNN under a limit on memory.")
    parser.add_argument("--rows", type=int, default=1_281_167)
    parser.add_argument("--dims", type=int, default=2048)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--queries", type=int, default=50_000)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--limit-gb", type=float, default=2.0)
    parser.add_argument("--excess", type=float, help="ends the probe's fits early")
    parser.add_argument("--folder", type=Path, help="keep the rows here; default: a temporary one")
    arguments = parser.parse_args()
    size = Size(arguments.rows, arguments.dims, arguments.classes, arguments.queries)
    limit_bytes = int(1e9 * arguments.limit_gb)
    print(f"{torch.get_num_threads()} threads", flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        compare(folder, size, limit_bytes, arguments.parts, arguments.excess).show()


if __name__ == "__main__":
    main()

"""Representations of many images, by one process undisturbed and by workers that are killed over
and over: what the two leave must be the same blocks.

Every killed run is a process of its own with an embedded Ray, and goes with all that it has
started, at a random moment of its work; the last one comes to the end.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import torch

from benchmarks.measure import ResultTable
from benchmarks.random_shards import write_sets
from benchmarks.scale.process_tree import ProcessTree, SeenProcess
from pipeline.cluster import connection
from pipeline.config.ray import RayConfig
from pipeline.config.student import StudentConfig
from pipeline.engine.workers import Workers
from pipeline.samples.seeding import numpy_generator
from pipeline.student.backbone import build_backbone
from pipeline.student.extraction import Extractor, Frozen
from pipeline.student.view_size import SizedImages
from shards.reader import ShardReader
from shards.schema import real_schema

_STUDENT = StudentConfig(architecture="resnet18", width=4, stem="imagenet")
_SAMPLES_PER_SHARD = 1000
_LOOK_S = 0.1
_LATEST = 0.9
"""Part of the blocks that are there, at most, when a kill is due."""
_AT_RANDOM_S = 1.0


@dataclass(frozen=True)
class ExtractionSize:
    """What is extracted, and how it is disturbed."""

    num_images: int
    side: int = 64
    num_workers: int = 2
    num_kills: int = 5


@dataclass(frozen=True)
class ExtractionTurn:
    """What runs of one kind, the last of which came to the end, left and held."""

    digests: dict[str, str]
    """SHA-256 of every block by its name."""
    num_bytes: int
    """Of the blocks."""
    num_leftovers: int
    """Files that are no blocks."""
    killed_at: tuple[int, ...]
    """Blocks that were there at each kill."""
    images_per_s: float
    """From the first new block of each run to its last."""
    total_s: float
    """All runs, Ray's start included."""
    driver: SeenProcess
    """The one that has held most."""
    workers: tuple[SeenProcess, ...]


def take_extractions(size: ExtractionSize, folder: Path) -> tuple[ExtractionTurn, ExtractionTurn]:
    """Undisturbed in one process, and killed on workers; images and blocks are left in `folder`."""
    images = folder / "images"
    write_sets(folder, {"images": real_schema(size.side)}, size.num_images, _SAMPLES_PER_SHARD)
    here = _take(size, images, folder / "here", num_workers=0, kill_at=())
    generator = numpy_generator(0, "benchmark/kills")
    latest = int(_LATEST * len(here.digests))
    kill_at = sorted(generator.integers(0, latest, size.num_kills, endpoint=True).tolist())
    return here, _take(size, images, folder / "killed", size.num_workers, kill_at)


def _take(
    size: ExtractionSize, images: Path, kept: Path, num_workers: int, kill_at: Sequence[int]
) -> ExtractionTurn:
    generator = numpy_generator(0, "benchmark/moments")
    runs, killed_at, since = list[_Run](), list[int](), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="ray-") as scratch:
        for wanted in kill_at:
            run = _Run(images, kept, size.side, num_workers, Path(scratch))
            runs.append(run)
            if run.watch(max(wanted, run.num_before + 1)):
                time.sleep(generator.uniform(0, _AT_RANDOM_S))
                run.tree.kill()
                killed_at.append(_count_blocks(kept))
        runs.append(_Run(images, kept, size.side, num_workers, Path(scratch)))
        runs[-1].watch(None)
    total_s = time.monotonic() - since
    if runs[-1].process.exitcode:
        raise RuntimeError(f"the last run ended with exit code {runs[-1].process.exitcode}")
    seen = [process for run in runs for process in run.tree.seen.values()]
    roots = [run.tree.seen[run.tree.root] for run in runs]
    paths = sorted(kept.rglob("*.npy"))
    moments = [moment for run in runs for moment in zip(run.seen, run.seen[1:], strict=False)]
    made = sum(after[1] - before[1] for before, after in moments)
    busy_s = sum(after[0] - before[0] for before, after in moments)
    return ExtractionTurn(
        {str(path.relative_to(kept)): _digest(path) for path in paths},
        sum(path.stat().st_size for path in paths),
        sum(path.is_file() for path in kept.rglob("*")) - len(paths),
        tuple(killed_at),
        size.num_images * made / len(paths) / busy_s if busy_s else 0.0,
        total_s,
        max(roots, key=lambda process: process.peak_mb),
        tuple(process for process in seen if "ray::_make_blocks" in process.titles),
    )


class _Run:
    """A process that extracts, from its start on."""

    def __init__(self, images: Path, kept: Path, side: int, num_workers: int, ray: Path) -> None:
        self.num_before = _count_blocks(kept)
        self.seen: list[tuple[float, int]] = []
        """When new blocks were first seen, and how many there were."""
        self._kept = kept
        context = multiprocessing.get_context("spawn")
        self.process = context.Process(target=_extract, args=(images, kept, side, num_workers))
        with mock.patch.dict(os.environ, RAY_TMPDIR=str(ray), OMP_NUM_THREADS="1"):
            os.environ.pop("RAY_ADDRESS", None)
            self.process.start()
        assert self.process.pid is not None
        self.tree = ProcessTree(self.process.pid)

    def watch(self, num_blocks: int | None) -> bool:
        """Look on until so many are there or, at the latest, the process has ended; whether it has
        not.
        """
        while self.process.is_alive():
            self.tree.look()
            count = _count_blocks(self._kept)
            if count > (self.seen[-1][1] if self.seen else self.num_before):
                self.seen.append((time.monotonic(), count))
            if num_blocks is not None and count >= num_blocks:
                return True
            self.process.join(_LOOK_S)
        return False


def _extract(images: Path, kept: Path, side: int, num_workers: int) -> None:
    """Runs in a process and a process group of its own, on one thread or on workers."""
    os.setsid()
    torch.set_num_threads(1)
    reader = ShardReader(images, remedy="write it again")
    workers = Workers(RayConfig(eval_workers=num_workers), "cpu")
    network = Frozen(build_backbone(_STUDENT, seed=0), (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    Extractor(kept, workers).extract(network, SizedImages(reader, side), None, "student")
    connection.disconnect()


def _count_blocks(kept: Path) -> int:
    return sum(1 for _ in kept.rglob("*.npy"))


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tabulate_extractions(
    size: ExtractionSize, here: ExtractionTurn, killed: ExtractionTurn
) -> ResultTable:
    """One row for each fact, one column for each kind."""
    turns = (here, killed)
    same = len(here.digests.items() & killed.digests.items())
    most = [max(turn.workers, key=lambda one: one.peak_mb, default=None) for turn in turns]
    rows: list[tuple[str | float, ...]] = [
        ("images/s at work", *(turn.images_per_s for turn in turns)),
        ("seconds in all", *(turn.total_s for turn in turns)),
        ("blocks at each kill", *(" ".join(map(str, turn.killed_at)) for turn in turns)),
        ("blocks", *(len(turn.digests) for turn in turns)),
        ("of them the same", "", same),
        ("bytes/image", *(turn.num_bytes / size.num_images for turn in turns)),
        ("other files left", *(turn.num_leftovers for turn in turns)),
        ("driver, peak MB", *(turn.driver.peak_mb for turn in turns)),
        ("driver, private MB", *(turn.driver.anonymous_mb for turn in turns)),
        ("worker processes", *(len(turn.workers) for turn in turns)),
        ("largest worker, peak MB", *("" if one is None else one.peak_mb for one in most)),
        (
            "workers, private MB at most",
            *(max((one.anonymous_mb for one in turn.workers), default="") for turn in turns),
        ),
    ]
    title = f"extraction of {size.num_images:,} images of {size.side} px"
    kinds = ("one process", f"{size.num_workers} workers, killed {size.num_kills} times")
    return ResultTable(title, ("", *kinds), rows)

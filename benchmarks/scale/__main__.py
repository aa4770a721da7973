"""`python -m benchmarks.scale`: what grows with the number of shards, and by how much.

- `run`: whole runs of `generate` over more and more shards, the rendering left out: time and memory
  of the driver, per shard.
- `manifest`: a pool of 100 million samples, files of holes: opening it, looking samples up, the
  order of samples.
- `workers`: the digits' teacher rendered by one and by two single-thread workers in turns.
- `extraction`: representations of many images, by one process and by two workers killed five times.
- `costs`: what pools of two sizes take, calculated.

Every turn is a process of its own. docs/scaling.md has the results.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import torch

from benchmarks.measure import (
    OURS,
    ResultTable,
    against_rivals,
    common_parser,
    in_process,
    tabulate_ratios,
)
from benchmarks.scale.costs import tabulate_costs
from benchmarks.scale.extraction import ExtractionSize, tabulate_extractions, take_extractions
from benchmarks.scale.manifest import ManifestTurn, take_manifest
from benchmarks.scale.run import RunTurn, take_run, take_workers
from benchmarks.speed.stream_samples import KINDS

PARTS = ("run", "manifest", "workers", "extraction", "costs")


def tabulate_runs(turns: Sequence[RunTurn]) -> ResultTable:
    """Time and memory of each number of shards, in all and per shard."""
    headings = (
        *("shards", "plan, s", "run, s", "tasks/s", "bare tasks/s", "nothing to do, s", "peak MB"),
        *("plan, us/shard", "run, ms/shard", "nothing to do, us/shard", "grown, kB/shard"),
    )
    rows = [
        (
            count := turn.num_shards,
            turn.plan_s,
            turn.run_s,
            count / turn.run_s,
            turn.bare_tasks_per_s,
            turn.hit_s,
            turn.peak_mb,
            1e6 * turn.plan_s / count,
            1e3 * turn.run_s / count,
            1e6 * turn.hit_s / count,
            1024 * turn.grown_mb / count,
        )
        for turn in turns
    ]
    return ResultTable("runs without rendering", headings, rows)


def tabulate_manifests(turns: Sequence[ManifestTurn]) -> ResultTable:
    """One row for each fact, one column for each kind."""
    names = [field.name for field in fields(ManifestTurn) if field.name != "kind"]
    rows = [(name, *(getattr(turn, name) for turn in turns)) for name in names]
    return ResultTable("large manifests", ("", *(turn.kind for turn in turns)), rows)


def tabulate_workers(num_shards: int, repeats: int) -> ResultTable:
    """Rates with one and two workers, in turns."""
    rates: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(repeats):
        for num_workers, found in rates.items():
            found.append(in_process(take_workers, num_workers, num_shards))
    one, two = (statistics.median(found) for found in rates.values())
    rows = [
        *against_rivals("rendering, 2 workers", "samples/s", {OURS: two, "1 worker": one}),
        ("scaling efficiency of 2 workers", f"{two / one / 2:.2f}", "", "", ""),
    ]
    return tabulate_ratios("workers", torch.device("cpu"), rows)


def main() -> None:
    """Run the command line."""
    parser = common_parser("What grows with the number of shards, and by how much.")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument(
        "--sizes", nargs="+", type=int, default=[1000, 10_000, 100_000], help="shards of the runs"
    )
    parser.add_argument(
        "--num-samples", type=int, default=100_000_000, help="samples of the manifests"
    )
    parser.add_argument("--shards", type=int, default=40, help="rendered in a turn of the workers")
    parser.add_argument(
        "--images", type=int, default=300_000, help="whose representations are made"
    )
    parser.add_argument("--folder", type=Path, help="where there is room for 16 kB an image")
    parser.set_defaults(repeats=3)
    arguments = parser.parse_args()
    if "run" in arguments.parts:
        tabulate_runs([in_process(take_run, size) for size in arguments.sizes]).show()
    if "manifest" in arguments.parts:
        samples = arguments.num_samples
        tabulate_manifests([in_process(take_manifest, kind, samples) for kind in KINDS]).show()
    if "workers" in arguments.parts:
        tabulate_workers(arguments.shards, arguments.repeats).show()
    if "extraction" in arguments.parts:
        size = ExtractionSize(arguments.images)
        with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
            tabulate_extractions(size, *take_extractions(size, Path(folder))).show()
    if "costs" in arguments.parts:
        for table in tabulate_costs():
            table.show()


if __name__ == "__main__":
    main()

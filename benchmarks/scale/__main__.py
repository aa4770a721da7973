"""`python -m benchmarks.scale`: what grows with the number of shards, and by how much.

- `run`: whole runs of `generate` over more and more shards, the rendering left out
  (`run.py`): time and memory of the driver, per shard.
- `manifest`: a pool of 100 million samples, files of holes (`manifest.py`): opening it,
  looking samples up, the order of samples.
- `workers`: the digits' teacher rendered by one and by two single-thread workers in turns
  (`workers.py`).
- `costs`: what pools of two sizes take, calculated (`costs.py`); docs/scaling.md.

Every turn is a process of its own.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import fields

import torch

from benchmarks.measure import BenchmarkRun, Figure, ResultTable, common_parser, publish
from benchmarks.processes import in_process
from benchmarks.scale.costs import tabulate_costs
from benchmarks.scale.manifest import ManifestTurn, take_manifest
from benchmarks.scale.run import RunTurn, take_run
from benchmarks.scale.workers import scaling_efficiency, take_workers
from benchmarks.speed.stream_samples import KINDS

PARTS = ("run", "manifest", "workers", "costs")
_US = 1e6


def tabulate_runs(turns: Sequence[RunTurn]) -> ResultTable:
    """Time and memory of each number of shards, in all and per shard."""
    headings = (
        "shards",
        "plan, s",
        "run, s",
        "tasks/s",
        "bare tasks/s",
        "nothing to do, s",
        "peak MB",
        "plan, us/shard",
        "run, ms/shard",
        "nothing to do, us/shard",
        "grown, kB/shard",
    )
    rows: list[tuple[str | float, ...]] = [
        (
            turn.num_shards,
            turn.plan_s,
            turn.run_s,
            turn.num_shards / turn.run_s,
            turn.bare_tasks_per_s,
            turn.hit_s,
            turn.peak_mb,
            _US * turn.plan_s / turn.num_shards,
            1e3 * turn.run_s / turn.num_shards,
            _US * turn.hit_s / turn.num_shards,
            1024 * turn.grown_mb / turn.num_shards,
        )
        for turn in turns
    ]
    return ResultTable("runs without rendering", headings, rows)


def tabulate_manifests(turns: Sequence[ManifestTurn]) -> ResultTable:
    """One row for each fact, one column for each kind."""
    rows: list[tuple[str | float, ...]] = [
        (field.name, *(getattr(turn, field.name) for turn in turns))
        for field in fields(ManifestTurn)
        if field.name != "kind"
    ]
    return ResultTable("large manifests", ("", *(turn.kind for turn in turns)), rows)


def measure_workers(num_shards: int, repeats: int) -> tuple[list[Figure], dict[str, float]]:
    """Rates with one and two workers, in turns, and the efficiency of two."""
    rates: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(repeats):
        for num_workers, found in rates.items():
            found.append(in_process(take_workers, num_workers, num_shards))
    medians = {workers: statistics.median(found) for workers, found in rates.items()}
    figure = Figure("rendering, 2 workers", medians[2], "samples/s", "1 worker", medians[1])
    return [figure], {"scaling efficiency of 2 workers": scaling_efficiency(medians)[2]}


def main(argv: list[str] | None = None) -> BenchmarkRun:
    """Run the command line; `argv` defaults to the process's."""
    started = time.perf_counter()
    parser = common_parser("What grows with the number of shards, and by how much.")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument(
        "--sizes", nargs="+", type=int, default=[1000, 10_000, 100_000], help="shards of the runs"
    )
    parser.add_argument(
        "--num-samples", type=int, default=100_000_000, help="samples of the manifests"
    )
    parser.add_argument("--shards", type=int, default=40, help="rendered in a turn of the workers")
    parser.set_defaults(repeats=3)
    arguments = parser.parse_args(argv)
    figures: list[Figure] = []
    details: dict[str, object] = {}
    tables: list[ResultTable] = []
    if "run" in arguments.parts:
        tables.append(tabulate_runs([in_process(take_run, size) for size in arguments.sizes]))
    if "manifest" in arguments.parts:
        turns = [in_process(take_manifest, kind, arguments.num_samples) for kind in KINDS]
        tables.append(tabulate_manifests(turns))
    if "workers" in arguments.parts:
        figures, efficiency = measure_workers(arguments.shards, arguments.repeats)
        details |= efficiency
    if "costs" in arguments.parts:
        tables += tabulate_costs()
    run = BenchmarkRun("scaling", torch.device("cpu"), figures, details, tables)
    publish(run, arguments.json, started)
    return run


if __name__ == "__main__":
    main()

"""`python -m pipeline tables CONFIG`: every row of the paper's tables, each an ordinary run.

A run is named by its row and seed, under `runs/NAME/tables/`; what is done is not done again. Rows
are independent: Ray has as many at work as it has room for.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline import cluster
from pipeline.config import Config
from pipeline.config_file import load_config
from pipeline.progress import console, progress_bar
from pipeline.stages import load_stage, needed_stages, run_stage
from pipeline.tables.rows import choose_configs
from shards.errors import UserError

METHODS_FOLDER = "methods"
_SHIPPED = Path(__file__).resolve().parents[2] / "configs" / METHODS_FOLDER


@dataclass(frozen=True)
class Cell:
    """One training: a row and a seed."""

    row: str
    seed: int
    config: Config


def run_tables(path: Path, changes: Sequence[str], dry_run: bool = False) -> bool:
    """Bring every row of the tables of the config in `path` up to date and write the tables.

    Returns:
        Whether all rows could be run; those that could not are named on the way and in the tables.
    """
    base = load_config(path, changes)
    cells = list_cells(path, changes)
    todo = [cell for cell in cells if not is_done(cell)]
    if dry_run:
        for cell in cells:
            console.print(f"{cell.config.name:<40} {'to do' if cell in todo else 'done'}")
        return True
    for name in needed_stages(base):
        if name in ("real", "teacher", "generate") and load_stage(name).find(base) is None:
            run_stage(name, base)
    problems: dict[str, str] = {}
    with progress_bar("trainings") as bar:
        task = bar.add_task("tables", total=len(cells), completed=len(cells) - len(todo), note="")
        for cell, problem in _run_cells(todo, base):
            if problem is not None:
                problems[cell.row] = problem
            bar.advance(task)
            console.print(f"{cell.config.name:<30} {problem or _accuracy(cell)}", soft_wrap=True)
    from pipeline.tables.page import write_tables

    for file in write_tables(base, cells, problems):
        console.print(f"tables    {file}", soft_wrap=True)
    return not problems


def _accuracy(cell: Cell) -> str:
    """The first of its numbers, for the terminal."""
    first, *_ = json.loads((cell.config.run_dir / "results.json").read_text(encoding="utf-8"))
    return f"{first['top1_mean']:.1f} % {first['probe']}, {first['labels']} labels"


def list_cells(path: Path, changes: Sequence[str]) -> list[Cell]:
    """Every training of the tables, all rows of one seed before the next."""
    base = load_config(path, changes)
    beside = path.parent / METHODS_FOLDER
    methods = beside if beside.is_dir() else _SHIPPED
    teacher = base.teacher_folder
    cells = []
    for seed in base.tables.seeds:
        for row in choose_configs(base.tables.rows):
            overrides = [
                f"name={row}-seed{seed}",
                f"train.seed={seed}",
                f"paths.runs={(base.run_dir / 'tables').absolute()}",
                f"teacher.checkpoint={teacher.absolute()}",
                "eval.baselines=false",
                "eval.embedding_samples=0",
            ]
            if base.tables.epochs is not None:
                overrides.append(f"train.epochs={base.tables.epochs}")
            config = load_config(path, [*changes, str(methods / f"{row}.yaml"), *overrides])
            cells.append(Cell(row, seed, config))
    return cells


def is_done(cell: Cell) -> bool:
    """Whether its results are there, made with these settings."""
    try:
        return load_stage("eval").find(cell.config) is not None
    except UserError:  # earlier stages are missing, or were made with other settings
        return False


def run_cell(config: Config) -> str | None:
    """Bring one training and its evaluation up to date; returns why that is not possible."""
    try:
        for name in needed_stages(config):
            if name not in ("teacher", "report") and load_stage(name).find(config) is None:
                run_stage(name, config)
    except UserError as error:
        return str(error)
    except Exception as error:  # of one row: the others are run
        return f"{type(error).__name__}: {error}"
    return None


def _run_cells(cells: list[Cell], base: Config) -> Iterator[tuple[Cell, str | None]]:
    if base.ray.render_workers == 0:  # as `generate`: in this process, without Ray
        for cell in cells:
            yield cell, run_cell(cell.config)
    elif cells:
        yield from _run_on_ray(cells, base)


def _run_on_ray(cells: list[Cell], base: Config) -> Iterator[tuple[Cell, str | None]]:
    cluster.connect(base.ray)
    import ray

    task = ray.remote(_run_task).options(
        num_cpus=1, num_gpus=base.ray.gpus_per_worker, max_retries=2
    )
    in_flight: dict[Any, Cell] = {}
    waiting = list(reversed(cells))
    limit = 2 * int(ray.cluster_resources().get("CPU", 1))  # type: ignore[no-untyped-call]
    try:
        while waiting or in_flight:
            while waiting and len(in_flight) < limit:
                cell = waiting.pop()
                in_flight[task.remote(cell.config.model_dump_json())] = cell
            for reference in cluster.wait_for_any(in_flight):
                cell = in_flight.pop(reference)
                yield cell, _result(reference)
    finally:
        for reference in in_flight:
            ray.cancel(reference)
        if in_flight:
            time.sleep(1)  # trainings save what they have


def _result(reference: Any) -> str | None:
    import ray

    try:
        problem: str | None = ray.get(reference)
        return problem
    except ray.exceptions.RayError as error:
        return " ".join(str(error).split())[-300:]


def _run_task(config: str) -> str | None:
    """Runs in a Ray worker, on one processor."""
    import torch

    os.environ.pop("RAY_ADDRESS", None)  # the training is this process's own, no worker group
    torch.set_num_threads(1)
    console.quiet = True
    return run_cell(Config.model_validate_json(config))

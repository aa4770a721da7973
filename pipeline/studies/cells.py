"""Trainings that are compared, each an ordinary run of one row and one seed; what is done is not
done again.

They are independent: Ray has as many at work as it has room for. Neighbours: `tables` and `sweeps`
say which there are, `collect.py` reads what they left.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.cluster import capacity, connection
from pipeline.config.ray import RayConfig
from pipeline.config.root import Config
from pipeline.stages import load_stage, needed_stages, run_stage
from pipeline.terminal.progress import console, progress_bar
from shards.errors import UserError


@dataclass(frozen=True)
class Cell:
    """One training: a row and a seed."""

    row: str
    seed: int
    config: Config


def print_cells(cells: Sequence[Cell]) -> None:
    """What there is, and what is to do."""
    for cell in cells:
        console.print(f"{cell.config.name:<40} {'done' if is_done(cell) else 'to do'}")


def run_cells(cells: Sequence[Cell], ray_config: RayConfig, title: str) -> dict[str, str]:
    """Bring all trainings and their evaluations up to date; returns row -> why it could not be run,
    of those that could not.
    """
    todo = [cell for cell in cells if not is_done(cell)]
    problems: dict[str, str] = {}
    with progress_bar("trainings") as bar:
        task = bar.add_task(title, total=len(cells), completed=len(cells) - len(todo), note="")
        for cell, problem in _run_each(todo, ray_config):
            if problem is not None:
                problems[cell.row] = problem
            bar.advance(task)
            console.print(f"{cell.config.name:<30} {problem or _accuracy(cell)}", soft_wrap=True)
    return problems


def _accuracy(cell: Cell) -> str:
    """The first of its numbers, for the terminal."""
    first, *_ = json.loads((cell.config.run_dir / "results.json").read_text(encoding="utf-8"))
    return f"{first['top1_mean']:.1f} % {first['probe']}, {first['labels']} labels"


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


def _run_each(cells: list[Cell], ray_config: RayConfig) -> Iterator[tuple[Cell, str | None]]:
    if ray_config.render_workers == 0:  # as `generate`: in this process, without Ray
        for cell in cells:
            yield cell, run_cell(cell.config)
    elif cells:
        yield from _run_on_ray(cells, ray_config)


def _run_on_ray(cells: list[Cell], ray_config: RayConfig) -> Iterator[tuple[Cell, str | None]]:
    connection.connect(ray_config)
    capacity.require(ray_config, "train")
    import ray

    task = ray.remote(_run_task).options(
        **capacity.task_options(ray_config, "train"),
        max_retries=2,
    )
    in_flight: dict[Any, Cell] = {}
    waiting = list(reversed(cells))
    bound = capacity.Limit(ray_config, "train", "all")
    try:
        while waiting or in_flight:
            while waiting and len(in_flight) < bound.now:
                cell = waiting.pop()
                in_flight[task.remote(cell.config)] = cell
            for reference in connection.wait_for_any(in_flight):
                cell = in_flight.pop(reference)
                yield cell, _result(reference)
    finally:
        connection.cancel(in_flight)
        if in_flight:
            time.sleep(1)  # trainings save what they have


def _result(reference: Any) -> str | None:
    import ray

    try:
        problem: str | None = ray.get(reference)
        return problem
    except ray.exceptions.RayError as error:
        return " ".join(str(error).split())[-300:]


def _run_task(config: Config) -> str | None:
    """Runs in a Ray worker, on one processor."""
    import torch

    os.environ.pop("RAY_ADDRESS", None)  # the training is this process's own, no worker group
    torch.set_num_threads(1)
    console.quiet = True
    return run_cell(config)

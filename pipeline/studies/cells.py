"""Trainings that are compared, each an ordinary run of one row and one seed; what is done is not
done again.

They are independent: Ray has as many at work as it has room for. Neighbours: `tables` and `sweeps`
say which there are, `collect.py` reads what they left.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pipeline.cluster.tasks import Answer, Listed, Places, run_tasks
from pipeline.config.ray import RayConfig
from pipeline.config.root import Config
from pipeline.results.ledger import read_evaluation
from pipeline.results.wording import probe_title
from pipeline.stages import load_stage, needed_stages, pack_sets, run_stage
from pipeline.terminal.progress import console, progress_bar
from shards.errors import InUse, UserError

_POLL_S = 2.0


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
    evaluated = load_stage("eval").find(cell.config)
    if evaluated is None:
        return "done"
    first, *_ = read_evaluation(cell.config.paths.runs, cell.config.name, evaluated.fingerprint)
    return f"{first.value:.1f} % {probe_title(first.probe, first.labels)}"


def is_done(cell: Cell) -> bool:
    """Whether its results are there, made with these settings."""
    try:
        return load_stage("eval").find(cell.config) is not None
    except UserError:  # earlier stages are missing, or were made with other settings
        return False


def run_cell(config: Config, *, waits: bool = False) -> str | None:
    """Bring one training and its evaluation up to date; returns why that is not possible, but for
    another command that is at work on it: with `waits` that is raised.
    """
    try:
        for name in needed_stages(config):
            if name == "eval":
                pack_sets(config)
            if name not in ("teacher", "report") and load_stage(name).find(config) is None:
                run_stage(name, config)
    except UserError as error:
        if waits and isinstance(error, InUse):
            raise
        return str(error)
    except Exception as error:  # of one row: the others are run
        return f"{type(error).__name__}: {error}"
    return None


def _run_each(cells: list[Cell], ray_config: RayConfig) -> Iterator[tuple[Cell, str | None]]:
    if ray_config.study_workers == 0 or not cells:
        for cell in cells:
            yield cell, run_cell(cell.config)
        return
    places = Places(ray_config, "train", ray_config.study_workers)
    num_ended = 0
    try:
        with run_tasks(
            _run_task, Listed(range(len(cells))), lambda n: (cells[n].config,), places
        ) as ended:
            for index, answer in ended:
                num_ended += 1
                yield cells[index], _problem_of(answer)
    finally:
        if num_ended < len(cells):
            time.sleep(1)  # trainings save what they have


def _problem_of(answer: Answer) -> str | None:
    try:
        problem: str | None = answer.get()
        return problem
    except Exception as error:  # of one row: the others are run
        return " ".join(str(error).split())[-300:]


def _run_task(config: Config) -> str | None:
    """Runs in a Ray worker, on one processor. A training that another task has in hand, given out
    twice when a node was lost, is waited for.
    """
    import torch

    os.environ.pop("RAY_ADDRESS", None)  # the training is this process's own, no worker group
    torch.set_num_threads(1)
    console.quiet = True
    while True:
        try:
            return run_cell(config, waits=True)
        except InUse:
            time.sleep(_POLL_S)

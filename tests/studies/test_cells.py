"""Trainings side by side: where they run, and what becomes of one that is at work already."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

from pipeline.config.ray import RayConfig
from pipeline.config.root import Config
from pipeline.studies import cells
from pipeline.studies.cells import Cell, run_cell, run_cells
from shards.atomic import exclusive
from shards.errors import InUse, UserError


def make_cell(folder: Path, name: str = "a") -> Cell:
    config = {"name": name, "paths": {"runs": str(folder), "store": str(folder / "store")}}
    return Cell(name, 0, Config.model_validate(config))


class Stage:
    """Whatever stage: never done, and at work alone in its folder."""

    def __init__(self, ran: list[str]) -> None:
        self.ran = ran

    def find(self, config: Config) -> None:
        return None

    def run(self, config: Config) -> None:
        self.ran.append(config.name)
        raise UserError("train.epochs: no")


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    names: list[str] = []
    monkeypatch.setattr(cells, "needed_stages", lambda config: ["train"])
    monkeypatch.setattr(cells, "load_stage", lambda name: Stage(names))
    monkeypatch.setattr("pipeline.stages.load_stage", lambda name: Stage(names))
    return names


def test_run_cells_without_study_workers_stays_in_this_process(
    tmp_path: Path, ran: list[str]
) -> None:
    todo = [make_cell(tmp_path, name) for name in "ab"]
    problems = run_cells(todo, RayConfig(render_workers=2, study_workers=0), "tables")
    assert ran == ["a", "b"]
    assert problems == {"a": "train.epochs: no", "b": "train.epochs: no"}


def _hold(folder: Path, held: object, done: object) -> None:
    with exclusive(folder):
        held.set()  # type: ignore[attr-defined]
        done.wait(60)  # type: ignore[attr-defined]


@pytest.mark.slow
def test_run_cell_that_another_command_has_at_work_waits_or_says_so(
    tmp_path: Path, ran: list[str]
) -> None:
    cell = make_cell(tmp_path)
    context = multiprocessing.get_context("forkserver")
    held, done = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(cell.config.run_dir / "train", held, done))
    other.start()
    assert held.wait(60)
    assert "at work" in str(run_cell(cell.config))
    with pytest.raises(InUse):
        run_cell(cell.config, waits=True)
    assert not ran
    done.set()
    other.join()
    assert run_cell(cell.config, waits=True) == "train.epochs: no"

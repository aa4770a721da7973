"""Where a training of one worker runs, and what of it is shown."""

from __future__ import annotations

import os
import re
import signal
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from pipeline.config.ray import RayConfig
from pipeline.engine.launch import Report, Training, run_training, watch
from pipeline.terminal.interrupt import Interrupted, interrupt_at_once
from shards.errors import UserError

IN_PROCESS, ON_RAY = RayConfig(), RayConfig(eval_workers=1, train_workers=1)


def sign(file: Path, _device: Any, report: Report) -> None:
    """Leave the number of the process, and report as a training does."""
    file.write_text(str(os.getpid()))
    for position in (1, 2, 3):
        assert not report(position, {"loss": 0.25} if position == 2 else {})


def training(folder: Path) -> Training[Path]:
    return Training(
        name="eval",
        function=sign,
        settings=folder / "signed",
        folder=folder,
        clock="images_seen",
        total=3,
        unit="images",
        note=lambda metrics: f"loss {metrics['loss']:.2f}",
        run_name="signed",
        work="eval",
    )


def process_of(folder: Path, config: RayConfig) -> tuple[int, int]:
    """Which process ran it, and which had it run."""
    run_training(training(folder), config, "cpu")
    return int((folder / "signed").read_text()), os.getpid()


def test_steps_without_metrics_move_the_bar_and_keep_the_note(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ran, asked = process_of(tmp_path, IN_PROCESS)
    assert ran == asked
    assert re.search(r"eval +3/3 .* loss 0\.25", capsys.readouterr().err)


@pytest.mark.ray
@pytest.mark.usefixtures("ray")
def test_work_for_eval_workers_within_a_task_runs_in_its_process(tmp_path: Path) -> None:
    """A task of a study has what it needs, and would wait for a worker that it keeps from work."""
    import ray

    ran, asked = ray.get(ray.remote(process_of).remote(tmp_path, ON_RAY))
    assert ran == asked


def refuse(_file: Path, _device: Any, _report: Report) -> None:
    raise UserError("eval: change that")


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.usefixtures("ray")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Ray Train's, of its own ways
def test_mistake_on_a_worker_is_its_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        run_training(replace(training(tmp_path), function=refuse), ON_RAY, "cpu")
    assert str(caught.value) == "eval: change that"


@pytest.mark.ray
@pytest.mark.usefixtures("ray")
def test_mistake_that_one_of_several_workers_meets_is_told_as_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others fail because it is gone. Ray itself would try four times."""
    import ray.train.torch

    class Failing:
        def __init__(self, *_given: Any, **_named: Any) -> None:
            pass

        def fit(self) -> None:
            failures = {0: RuntimeError("connection reset"), 1: UserError("train: change that")}
            raise ray.train.WorkerGroupError("of two", failures)

    monkeypatch.setattr(ray.train.torch, "TorchTrainer", Failing)
    two = replace(training(tmp_path), work="train")
    with pytest.raises(UserError, match="train: change that"):
        run_training(two, RayConfig(train_workers=2), "cpu")


def test_interrupt_ends_the_wait_for_workers() -> None:
    """Whatever they are at: their end is not waited for."""
    has_begun, may_end = Event(), Event()

    def work() -> None:
        has_begun.set()
        may_end.wait()

    def interrupt() -> None:
        has_begun.wait()
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    interrupt_at_once()
    try:
        Thread(target=interrupt, daemon=True).start()
        with pytest.raises(Interrupted):
            watch(work, lambda: None)
    finally:
        signal.signal(signal.SIGINT, before)
        may_end.set()

"""Where a training of one worker runs, and what of it is shown."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from pipeline.config.ray import RayConfig
from pipeline.engine.launch import Report, Training, run_training
from pipeline.terminal.interrupt import Interrupted
from tests.support.ray_session import ray_session

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


@pytest.fixture(scope="module")
def session() -> Iterator[None]:
    with ray_session(ON_RAY):
        yield


def test_steps_without_metrics_move_the_bar_and_keep_the_note(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ran, asked = process_of(tmp_path, IN_PROCESS)
    assert ran == asked
    assert re.search(r"eval +3/3 .* loss 0\.25", capsys.readouterr().err)


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.usefixtures("session")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Ray Train's, of its own ways
def test_work_for_eval_workers_runs_on_one_but_within_a_task_in_its_process(
    tmp_path: Path,
) -> None:
    """A task of a study has what it needs, and would wait for a worker that it keeps from work."""
    import ray

    ran, asked = process_of(tmp_path / "driver", ON_RAY)
    assert ran != asked
    task = ray.remote(process_of).remote(tmp_path / "task", ON_RAY)
    ran, asked = ray.get(task)
    assert ran == asked


def dawdle(file: Path, _device: Any, _report: Report) -> None:
    """Longer than anybody waits."""
    file.touch()
    time.sleep(300)


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.usefixtures("session")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_interrupt_ends_the_wait_for_a_worker(tmp_path: Path) -> None:
    """The last of those that share a Ray: it leaves the worker to the end of the session."""
    long = replace(training(tmp_path), function=dawdle, run_name="long")

    def interrupt() -> None:
        while not long.settings.exists():
            time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGINT)

    Thread(target=interrupt, daemon=True).start()
    with pytest.raises(Interrupted):
        run_training(long, ON_RAY, "cpu")

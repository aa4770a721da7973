"""The log of a run."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from pipeline.records.log import LOG_FILE, logged
from pipeline.terminal.interrupt import Interrupted


def lines(run_dir: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run_dir / LOG_FILE).read_text().splitlines()]


def test_logged_stage_says_when_it_began_and_how_long_it_took(tmp_path: Path) -> None:
    with logged(tmp_path / "run", "train", ray={"train_workers": 2}):
        (tmp_path / "run").mkdir()  # as the first stage of a run does
    started, finished = lines(tmp_path / "run")
    assert (started["event"], finished["event"]) == ("started", "finished")
    assert started["ray"] == {"train_workers": 2}
    assert started["stage"] == finished["stage"] == "train"
    assert started["at"] <= finished["at"]
    assert finished["seconds"] >= 0
    assert {"host", "pid"} <= set(started)


@pytest.mark.parametrize(
    ("error", "event"), [(ValueError("no\nroom"), "failed"), (Interrupted(), "interrupted")]
)
def test_logged_stage_that_ends_early_says_how_and_raises(
    tmp_path: Path, error: BaseException, event: str
) -> None:
    with pytest.raises(type(error)), logged(tmp_path, "eval"):
        raise error
    last = lines(tmp_path)[-1]
    assert last["event"] == event
    assert last.get("error") == ("ValueError: no room" if event == "failed" else None)


def test_log_keeps_the_lines_that_are_there_and_is_written_at_once(tmp_path: Path) -> None:
    for name in ("real", "train"):
        with logged(tmp_path, name):
            assert lines(tmp_path)[-1]["event"] == "started"
    found = [(line["stage"], line["event"]) for line in lines(tmp_path)]
    assert found == [(s, e) for s in ("real", "train") for e in ("started", "finished")]


def test_logged_mistake_makes_no_folder_for_a_run(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no room"), logged(tmp_path / "run", "real"):
        raise ValueError("no room")
    assert list(tmp_path.iterdir()) == []


def test_log_keeps_what_modules_say_and_the_terminal_has_none_of_it(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    logger = logging.getLogger("pipeline.cluster.connection")
    logger.warning("before")
    with logged(tmp_path / "run", "generate"):
        logger.warning("lost\na node")
        (tmp_path / "run").mkdir()
    logger.warning("after")
    events = [(line["event"], line.get("message")) for line in lines(tmp_path / "run")]
    assert events == [("started", None), ("message", "lost\na node"), ("finished", None)]
    assert capfd.readouterr() == ("", "")

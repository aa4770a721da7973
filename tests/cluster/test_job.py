"""Commands that a cluster's job server runs."""

from __future__ import annotations

import json
import os
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from pipeline.cluster import connection
from pipeline.cluster.connection import is_job_server
from pipeline.config.ray import RayConfig
from shards.errors import UserError
from tests.support.command_line import Result, command, run_process
from tests.support.ray_process import ray_process
from tests.support.workspace import environment

if TYPE_CHECKING:
    from ray.job_submission import JobStatus

submit = pytest.importorskip("pipeline.cluster.job", reason="Ray is not installed")


@pytest.mark.parametrize(
    ("address", "found"),
    [("http://head:8265", True), ("ray://head:10001", False), ("head:6379", False), (None, False)],
)
def test_is_job_server_by_its_address(
    monkeypatch: pytest.MonkeyPatch, address: str | None, found: bool
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if address is not None:
        monkeypatch.setenv("RAY_ADDRESS", address)
    assert is_job_server() is found


class StartingServer:
    """A job server that takes nothing at first."""

    def __init__(self, refusals: int, reason: str) -> None:
        self.refusals = refusals
        self.reason = reason
        self.entrypoints: list[str] = []

    def submit_job(self, entrypoint: str, **_: object) -> str:
        self.entrypoints.append(entrypoint)
        if len(self.entrypoints) <= self.refusals:
            raise RuntimeError(self.reason)
        return "job-1"


def test_submit_asks_a_cluster_that_has_just_come_up_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(submit, "_POLL_S", 0)
    server = StartingServer(2, "No available agent to submit job, please try again later.")
    assert submit._submit(server, ["real", "a b.yaml"]) == "job-1"
    assert server.entrypoints == ["python -m pipeline real 'a b.yaml'"] * 3
    with pytest.raises(RuntimeError, match="no room"):
        submit._submit(StartingServer(1, "no room"), ["real"])


class UnsteadyServer:
    """A job server whose answers to questions about a job are listed."""

    def __init__(self, *answers: str | Exception) -> None:
        self.answers = list(answers)

    def get_job_info(self, job: str) -> str:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def get_job_status(self, job: str) -> JobStatus:
        from ray.job_submission import JobStatus

        return JobStatus(self.get_job_info(job))

    def stop_job(self, job: str) -> None:
        self.get_job_info(job)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds; sleeping takes no time."""
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setenv("RAY_ADDRESS", "http://head:8265")
    monkeypatch.setattr(submit, "time", SimpleNamespace(monotonic=lambda: now[0], sleep=sleep))
    return now


def test_a_cluster_that_is_away_is_asked_again(clock: list[float]) -> None:
    away = [ConnectionRefusedError("refused"), RuntimeError("status code 503")] * 20
    assert submit._ask(UnsteadyServer(*away, "done"), "job-1") == "done"


def test_a_cluster_that_stays_away_is_given_up_in_one_line(clock: list[float]) -> None:
    with pytest.raises(UserError, match=r"http://head:8265.*job-1 .no answer.*again"):
        submit._ask(UnsteadyServer(*[ConnectionRefusedError("refused")] * 200), "job-1")
    assert 60 < clock[0] < 62


def test_a_job_that_the_cluster_has_forgotten_is_given_up_at_once(clock: list[float]) -> None:
    with pytest.raises(UserError, match="job-1 does not exist"):
        submit._ask(UnsteadyServer(RuntimeError("Job job-1 does not exist")), "job-1")
    assert clock[0] == 0


@pytest.mark.parametrize(
    ("answers", "is_impatient", "said"),
    [
        (["", "RUNNING", "RUNNING", "STOPPED"], False, None),
        ([ConnectionRefusedError("refused")], False, "may run on: no answer"),
        (["", "RUNNING"], True, "may run on: asked to stop"),
        (["", *["RUNNING"] * 200], False, "may run on: asked to stop"),
    ],
)
def test_a_stopped_job_is_waited_for_and_else_said_to_run_on(
    clock: list[float],
    capsys: pytest.CaptureFixture[str],
    answers: list[str | Exception],
    is_impatient: bool,
    said: str | None,
) -> None:
    submit._stop(UnsteadyServer(*answers), "job-1", lambda: is_impatient)
    printed = capsys.readouterr().err
    assert "stopping job-1" in printed
    assert (said is None) == ("may run on" not in printed)
    assert (said or "") in printed
    assert clock[0] < 62


def test_work_here_is_not_sent_to_a_job_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "http://head:8265")
    with pytest.raises(UserError, match="HOST:6379"):
        connection.connect(RayConfig())


@pytest.fixture
def job_server(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment in which commands go to a cluster with a token, which this starts."""
    token = tmp_path / "token"
    token.write_text(secrets.token_hex(32))
    paths = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    variables = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token), "PATH": paths}
    options = "include_dashboard=True, dashboard_port=port"
    with ray_process(options, "", {**environment(), **variables}) as port:
        yield {**environment(), **variables, "RAY_ADDRESS": f"http://127.0.0.1:{port}"}


@pytest.mark.ray
@pytest.mark.slow
def test_command_runs_as_a_job_and_its_lines_and_exit_code_come_back(
    job_server: dict[str, str], tmp_path: Path
) -> None:
    def run(*arguments: str, **changes: str) -> Result:
        places = [f"paths.runs={tmp_path / 'runs'}", f"paths.store={tmp_path / 'store'}"]
        return run_process(command(*arguments, *places), **{**job_server, **changes})

    done = run("real", "configs/digits.yaml", "name=job")
    assert done.code == 0, done.errors
    assert "real      finished" in done.errors
    assert done.errors.count("Running entrypoint") == 1
    lines = (tmp_path / "runs" / "job" / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["event"] for line in lines] == ["started", "finished"]
    wrong = run("eval", "configs/digits.yaml", "name=job")
    assert wrong.code == 2
    assert "python -m pipeline train configs/digits.yaml name=job" in wrong.errors
    refused = run("real", "configs/digits.yaml", "name=job", RAY_AUTH_TOKEN_PATH=os.devnull)
    assert refused.code == 2
    assert "RAY_AUTH_TOKEN_PATH" in refused.errors
    assert "Traceback" not in refused.errors

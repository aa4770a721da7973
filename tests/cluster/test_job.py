"""Commands that a cluster's job server runs."""

from __future__ import annotations

import json
import os
import secrets
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from pipeline.cluster import connection
from pipeline.cluster.connection import is_job_server
from pipeline.config.ray import RayConfig
from pipeline.terminal.interrupt import Interrupted
from shards.errors import UserError
from tests.support.command_line import Result, command, run_process
from tests.support.ray_process import ray_process
from tests.support.workspace import environment

if TYPE_CHECKING:
    from ray.job_submission import JobStatus

job = pytest.importorskip("pipeline.cluster.job", reason="Ray is not installed")

Submit = Callable[..., int]


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


class JobServer:
    """A job server, and what it answers when a job is submitted and when it is asked about it."""

    def __init__(
        self, asked: Sequence[str | Exception], refusals: Sequence[Exception] = ()
    ) -> None:
        self.answers = list(asked)
        self.refusals = list(refusals)
        self.entrypoints: list[str] = []
        self.is_stopped = False

    def submit_job(self, entrypoint: str, **_: object) -> str:
        self.entrypoints.append(entrypoint)
        if self.refusals:
            raise self.refusals.pop(0)
        return "job-1"

    async def tail_job_logs(self, job: str) -> AsyncIterator[str]:
        yield "at work\n"

    def get_job_info(self, job: str) -> Any:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return SimpleNamespace(status=self.status(answer), driver_exit_code=7)

    def get_job_status(self, job: str) -> JobStatus:
        return self.get_job_info(job).status

    def stop_job(self, job: str) -> None:
        self.is_stopped = True
        self.get_job_info(job)

    def status(self, name: str) -> JobStatus:
        from ray.job_submission import JobStatus

        return JobStatus(name)


class InterruptedServer(JobServer):
    """One from which a person turns away: Ctrl-C at the first line, and with every answer if they
    are impatient.
    """

    def __init__(self, asked: Sequence[str | Exception], is_impatient: bool) -> None:
        super().__init__(asked)
        self.is_impatient = is_impatient

    async def tail_job_logs(self, job: str) -> AsyncIterator[str]:
        yield "at work\n"
        signal.raise_signal(signal.SIGINT)

    def get_job_info(self, job: str) -> Any:
        if self.is_impatient:
            signal.raise_signal(signal.SIGINT)
        return super().get_job_info(job)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds; sleeping takes no time."""
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr(job, "time", SimpleNamespace(monotonic=lambda: now[0], sleep=sleep))
    return now


@pytest.fixture
def submit(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> Iterator[Submit]:
    """Run a command as a job of a server; returns its exit code."""
    monkeypatch.setenv("RAY_ADDRESS", "http://head:8265")
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def call(server: JobServer, *arguments: str) -> int:
        monkeypatch.setattr(job, "JobSubmissionClient", lambda address: server)
        return job.submit(arguments or ["real"])

    yield call
    for number, handler in before.items():
        signal.signal(number, handler)


STARTING = RuntimeError("No available agent to submit job, please try again later.")
OVER = ["SUCCEEDED"] * 2
REFUSED = ConnectionRefusedError("refused")


def test_submit_asks_a_cluster_that_has_just_come_up_again(submit: Submit) -> None:
    server = JobServer(OVER, [STARTING] * 2)
    assert submit(server, "real", "a b.yaml") == 7
    assert server.entrypoints == ["python -m pipeline real 'a b.yaml'"] * 3
    with pytest.raises(UserError, match="no room"):
        submit(JobServer(OVER, [RuntimeError("no room")]))


def test_a_cluster_that_is_away_is_asked_again(submit: Submit) -> None:
    away = [REFUSED, RuntimeError("status code 503")] * 20
    assert submit(JobServer([*away, *OVER])) == 7


def test_a_cluster_that_stays_away_is_given_up_in_one_line(
    submit: Submit, clock: list[float]
) -> None:
    with pytest.raises(UserError, match=r"http://head:8265.*job-1 .no answer.*again"):
        submit(JobServer([REFUSED] * 200))
    assert 60 < clock[0] < 62


def test_a_job_that_the_cluster_has_forgotten_is_given_up_at_once(
    submit: Submit, clock: list[float]
) -> None:
    with pytest.raises(UserError, match="job-1 does not exist"):
        submit(JobServer([RuntimeError("Job job-1 does not exist")]))
    assert clock[0] == 0


@pytest.mark.parametrize(
    ("answers", "is_impatient", "said"),
    [
        (["RUNNING", "RUNNING", "RUNNING", "STOPPED"], False, None),
        ([REFUSED], False, "may still be running: no answer"),
        (["RUNNING", "RUNNING"], True, "may still be running: asked to stop"),
        (["RUNNING"] * 200, False, "may still be running: asked to stop"),
    ],
)
def test_a_stopped_job_is_waited_for_and_else_said_to_run_on(
    submit: Submit,
    clock: list[float],
    capsys: pytest.CaptureFixture[str],
    answers: list[str | Exception],
    is_impatient: bool,
    said: str | None,
) -> None:
    server = InterruptedServer(answers, is_impatient)
    with pytest.raises(Interrupted):
        submit(server)
    assert server.is_stopped
    printed = capsys.readouterr().err
    assert "stopping job-1" in printed
    assert (said is None) == ("may still be running" not in printed)
    assert (said or "") in printed
    assert clock[0] < 62


def test_work_here_is_not_sent_to_a_job_server(monkeypatch: pytest.MonkeyPatch) -> None:
    connection.disconnect()  # from what another test may have left
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

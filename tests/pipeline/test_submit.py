"""Commands that a cluster's job server runs."""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline import submit
from pipeline.submit import is_job_server
from tests.workspace import ROOT, environment

HEAD = """
import logging, sys, ray
ray.init(address="local", num_cpus=1, include_dashboard=True, dashboard_port=int(sys.argv[1]),
         object_store_memory=100 << 20, logging_level=logging.ERROR)
print("ready", flush=True)
sys.stdin.read()
ray.shutdown()
"""


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


@pytest.fixture
def job_server(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment in which commands go to a cluster with a token, which this starts."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token = tmp_path / "token"
    token.write_text(secrets.token_hex(32))
    paths = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    variables = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token), "PATH": paths}
    head = subprocess.Popen(
        [sys.executable, "-c", HEAD, str(port)],
        env={**environment(), **variables},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert head.stdout is not None
    try:
        while head.stdout.readline() not in ("ready\n", ""):
            pass
        yield {**environment(), **variables, "RAY_ADDRESS": f"http://127.0.0.1:{port}"}
    finally:
        head.communicate("")


@pytest.mark.ray
@pytest.mark.slow
def test_command_runs_as_a_job_and_its_lines_and_exit_code_come_back(
    job_server: dict[str, str], tmp_path: Path
) -> None:
    def run(*arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
        places = [f"paths.runs={tmp_path / 'runs'}", f"paths.store={tmp_path / 'store'}"]
        return subprocess.run(
            [sys.executable, "-m", "pipeline", *arguments, *places],
            cwd=ROOT,
            env={**job_server, **changes},
            capture_output=True,
            text=True,
            check=False,
        )

    done = run("real", "configs/digits.yaml", "name=job")
    assert done.returncode == 0, done.stderr
    assert "real      finished" in done.stderr
    assert done.stderr.count("Running entrypoint") == 1
    lines = (tmp_path / "runs" / "job" / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["event"] for line in lines] == ["started", "finished"]
    wrong = run("eval", "configs/digits.yaml", "name=job")
    assert wrong.returncode == 2
    assert "make train" in wrong.stderr
    refused = run("real", "configs/digits.yaml", "name=job", RAY_AUTH_TOKEN_PATH=os.devnull)
    assert refused.returncode == 2
    assert "RAY_AUTH_TOKEN_PATH" in refused.stderr
    assert "Traceback" not in refused.stderr

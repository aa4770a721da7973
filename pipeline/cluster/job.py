"""A command as a job of a Ray cluster: `RAY_ADDRESS=http://HOST:8265 make generate`.

The working directory goes there, without data, runs and environment; the command runs on the
cluster's head, its lines come back, and Ctrl-C stops it there. Typed again, it goes on.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from aiohttp import ClientError
from ray.exceptions import RayError
from ray.job_submission import JobSubmissionClient

from pipeline.cluster.connection import describe_runtime
from pipeline.terminal.interrupt import Interrupted, deferred_interrupts, interrupt_at_once
from pipeline.terminal.progress import console
from shards.errors import UserError

_MAX_STARTING_S = 60
_MAX_STOP_S = 60
_MAX_AWAY_S = 60
_POLL_S = 0.5
_ERRORS = (OSError, RuntimeError, RayError)


def submit(arguments: Sequence[str]) -> int:
    """Run `python -m pipeline` with `arguments` on the cluster; returns its exit code.

    Raises:
        UserError: if the job server does not answer or refuses the token, or is lost later.
        Interrupted: by a signal, once the job has been stopped.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    for name in ("ray", "ray.dashboard.modules.dashboard_sdk", "ray.dashboard.modules.job.sdk"):
        logging.getLogger(name).setLevel(logging.ERROR)
    address = os.environ["RAY_ADDRESS"]
    try:
        client = JobSubmissionClient(address)
        job = _submit(client, arguments)
    except _ERRORS as error:
        raise UserError(
            f"RAY_ADDRESS={address}: cannot submit ({_reason(error)}); is this the cluster's "
            "dashboard, and if it asks for a token, are RAY_AUTH_MODE=token and "
            "RAY_AUTH_TOKEN_PATH set here?"
        ) from None
    interrupt_at_once()
    console.print(f"job       {job} on {address}", soft_wrap=True)
    try:
        asyncio.run(_print_logs(client, job))
        exit_code = _ask(client, job).driver_exit_code
    except Interrupted:
        with deferred_interrupts() as is_impatient:
            _stop(client, job, is_impatient)
        raise
    return 1 if exit_code is None else int(exit_code)


def _submit(client: Any, arguments: Sequence[str]) -> str:
    """The job's name. A cluster that has just come up is asked again until it can take jobs."""
    deadline = time.monotonic() + _MAX_STARTING_S
    while True:
        try:
            return str(
                client.submit_job(
                    entrypoint=shlex.join(["python", "-m", "pipeline", *arguments]),
                    runtime_env=describe_runtime(),
                    metadata={"job_name": arguments[0]},
                )
            )
        except RuntimeError as error:
            if "No available agent" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(_POLL_S)


async def _print_logs(client: Any, job: str) -> None:
    """Until the job is over, over connections that may break."""
    printed = 0
    while True:
        seen = 0
        with suppress(*_ERRORS, ClientError):
            async for lines in client.tail_job_logs(job):  # from the first line, each time
                new = lines[max(0, printed - seen) :]
                seen += len(lines)
                sys.stderr.write(new)
                sys.stderr.flush()
                printed = max(printed, seen)
        if _ask(client, job).status.is_terminal():
            return
        await asyncio.sleep(_POLL_S)


def _ask(client: Any, job: str) -> Any:
    """Details of the job, from a cluster that may be away for a while.

    Raises:
        UserError: if it stays away, or knows nothing of the job, as after a new start of its head.
    """
    deadline = time.monotonic() + _MAX_AWAY_S
    while True:
        try:
            return client.get_job_info(job)
        except _ERRORS as error:
            if "does not exist" in str(error) or time.monotonic() > deadline:
                raise UserError(
                    f"RAY_ADDRESS={os.environ['RAY_ADDRESS']}: no answer about job {job} "
                    f"({_reason(error)}); once the cluster is back, run the command again to "
                    "resume"
                ) from None
            time.sleep(_POLL_S)


def _stop(client: Any, job: str, is_impatient: Callable[[], bool]) -> None:
    """Stop the job, and wait until it has ended or `is_impatient`."""
    console.print(f"job       stopping {job}", soft_wrap=True)
    deadline = time.monotonic() + _MAX_STOP_S
    try:
        client.stop_job(job)
        while not client.get_job_status(job).is_terminal():
            if is_impatient() or time.monotonic() > deadline:
                raise RuntimeError("asked to stop, not over yet")
            time.sleep(_POLL_S)
    except _ERRORS as error:
        console.print(f"job       {job} may still be running: {_reason(error)}", soft_wrap=True)


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return "no answer"
    return " ".join(str(error).split())[:160]

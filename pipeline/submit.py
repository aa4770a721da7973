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
from collections.abc import Sequence
from typing import Any

from pipeline.cluster import EXCLUDED
from pipeline.interrupt import Interrupted, interrupt_at_once
from pipeline.progress import console
from shards.errors import UserError

_MAX_STARTING_S = 60
_MAX_STOP_S = 60
_POLL_S = 0.5


def is_job_server() -> bool:
    """Whether `RAY_ADDRESS` names a cluster's job server."""
    return os.environ.get("RAY_ADDRESS", "").startswith(("http://", "https://"))


def submit(arguments: Sequence[str]) -> int:
    """Run `python -m pipeline` with `arguments` on the cluster; returns its exit code.

    Raises:
        UserError: if the job server does not answer or refuses the token.
        Interrupted: by a signal, once the job has been stopped.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    from ray.exceptions import RayError
    from ray.job_submission import JobSubmissionClient

    for name in ("ray", "ray.dashboard", "ray.dashboard.modules.job.sdk"):
        logging.getLogger(name).setLevel(logging.ERROR)
    address = os.environ["RAY_ADDRESS"]
    try:
        client = JobSubmissionClient(address)
        job = _submit(client, arguments)
    except (OSError, RuntimeError, RayError) as error:
        reason = " ".join(str(error).split())[:160]
        raise UserError(
            f"RAY_ADDRESS={address}: cannot submit ({reason}); is this the cluster's dashboard, "
            "and if it asks for a token, are RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH set here?"
        ) from None
    interrupt_at_once()
    console.print(f"job       {job} on {address}", soft_wrap=True)
    try:
        asyncio.run(_print_logs(client, job))
    except Interrupted:
        console.print(f"job       stopping {job}", soft_wrap=True)
        client.stop_job(job)
        deadline = time.monotonic() + _MAX_STOP_S
        while not _is_over(client, job) and time.monotonic() < deadline:
            time.sleep(_POLL_S)
        raise
    info = client.get_job_info(job)
    return int(info.driver_exit_code or 0) if info.driver_exit_code is not None else 1


def _submit(client: Any, arguments: Sequence[str]) -> str:
    """The job's name. A cluster that has just come up is asked again until it can take jobs."""
    deadline = time.monotonic() + _MAX_STARTING_S
    while True:
        try:
            return str(
                client.submit_job(
                    entrypoint=shlex.join(["python", "-m", "pipeline", *arguments]),
                    runtime_env={"working_dir": ".", "excludes": EXCLUDED},
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
        try:
            async for lines in client.tail_job_logs(job):  # from the first line, each time
                new = lines[max(0, printed - seen) :]
                seen += len(lines)
                sys.stderr.write(new)
                sys.stderr.flush()
                printed = max(printed, seen)
        except (OSError, RuntimeError):
            await asyncio.sleep(_POLL_S)
        if _is_over(client, job):
            return


def _is_over(client: Any, job: str) -> bool:
    return bool(client.get_job_status(job).is_terminal())

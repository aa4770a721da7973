"""The only place that connects to Ray: `RAY_ADDRESS` if set, else an embedded instance of two to a
few workers.

Starting Ray takes 10 s and more, so a stage asks for it only once it knows that there is work, and
all stages of one process share the session. The command line disconnects at the end.
"""

from __future__ import annotations

import logging
import math
import os
import socket
import sys
from collections.abc import Iterable
from typing import Any

from pipeline.cluster import openmp
from pipeline.config.ray import RayConfig
from pipeline.terminal.interrupt import Interrupted, deferred_interrupts, interrupt_at_once
from shards.errors import UserError

_LOGGER = logging.getLogger(__name__)
EXCLUDED = ["/.git", "/.venv", "/runs", "/store", "/data"]
"""What no node needs of the working directory."""


def is_external() -> bool:
    """Whether `RAY_ADDRESS` names a cluster."""
    return bool(os.environ.get("RAY_ADDRESS"))


def is_in_task() -> bool:
    """Whether this process is one of Ray's, at work on a task or as an actor."""
    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return False
    return bool(ray.get_runtime_context().worker.mode == ray.WORKER_MODE)


def is_job_server() -> bool:
    """Whether `RAY_ADDRESS` names a cluster's job server."""
    return os.environ.get("RAY_ADDRESS", "").startswith(("http://", "https://"))


def describe_runtime() -> dict[str, Any]:
    """Ray's `runtime_env`: what a cluster's processes get of this one's files and environment."""
    return {"working_dir": ".", "excludes": EXCLUDED, "env_vars": openmp.spin_settings()}


def connect(config: RayConfig) -> None:
    """Connect this process to Ray, once.

    Raises:
        UserError: if the cluster named by RAY_ADDRESS does not answer or refuses the token, or Ray
            is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_TRAIN_ENABLE_V2", "1")
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # what goes wrong in a task that was given up, as on Ctrl-C, is nobody's to read
    os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")
    try:
        import ray
    except ModuleNotFoundError:
        raise UserError(
            "Ray is not installed: pip install 'ray[default,train]', or stay in this process with "
            "ray.render_workers=0 ray.pack_workers=0 ray.train_workers=1 ray.eval_workers=0 "
            "ray.study_workers=0 and no RAY_ADDRESS"
        ) from None

    if ray.is_initialized():
        return
    _keep_messages_off_the_terminal()
    if is_external():
        _join()
    else:
        ray.init(
            address="local",
            num_cpus=_count_processors(config),
            include_dashboard=False,
            object_store_memory=config.object_store_mb << 20,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    interrupt_at_once()  # Ray has put handlers of its own, which print stack traces


def _keep_messages_off_the_terminal() -> None:
    """Ray prints what befalls nodes and workers, such as the last twenty lines of the log of a
    raylet that was lost, and has no setting for it: `log_to_driver` is of the output of workers.
    """
    from ray._private import worker

    def log_message(data: dict[str, Any], ignore_prefix: bool) -> None:
        _LOGGER.warning("\n".join(data["lines"]))

    worker.print_to_stdstream = log_message


def _count_processors(config: RayConfig) -> int | None:
    """Of the embedded Ray; None: all."""
    workers = (config.render_workers, config.train_workers, config.eval_workers)
    if "all" in workers:
        return None
    at_once = 1 if config.study_workers == "all" else config.study_workers
    return math.ceil(max(int(n) for n in (*workers, at_once, 1)) * config.cpus_per_worker)


def _join() -> None:
    import ray

    address = os.environ["RAY_ADDRESS"]
    if is_job_server():
        raise UserError(
            f"RAY_ADDRESS={address}: whole stages go there as jobs, this command runs here; name "
            "the cluster itself, HOST:6379 or ray://HOST:10001, or unset RAY_ADDRESS"
        )
    # what a job was submitted with is there already, and Ray refuses to have it twice
    is_job = "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ
    runtime_env = {} if is_job else describe_runtime()
    try:
        _knock(address)
        ray.init(
            runtime_env=runtime_env,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except (OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:160]
        raise UserError(
            f"RAY_ADDRESS={address}: cannot connect ({reason}); is the cluster up, and if it asks "
            "for a token, are RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH set here?"
        ) from None


def _knock(address: str) -> None:
    """Raise OSError at once where nobody listens; Ray itself would try for a minute or more."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()


def wait_for_any(references: Iterable[Any]) -> list[Any]:
    """Those of the tasks that have ended, after at most a second.

    Signals are answered when Ray has returned: raised inside its calls, they come out as errors.
    """
    import ray

    with deferred_interrupts() as is_interrupted:
        finished, _ = ray.wait(list(references), num_returns=1, timeout=1)
    if is_interrupted():
        raise Interrupted
    return list(finished)


def list_nodes() -> list[dict[str, Any]]:
    """Ray's tables of the cluster's nodes, those included that it has lost (not "Alive")."""
    import ray

    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return nodes


def cancel(references: Iterable[Any]) -> None:
    """Give up tasks, but for those that have ended: Ray 2.60 aborts the process if a task is
    cancelled while its end is put down, when its result is there already.
    """
    import ray

    given = list(references)
    if given:
        _, pending = ray.wait(given, num_returns=len(given), timeout=0, fetch_local=False)
        for reference in pending:
            ray.cancel(reference)


def disconnect() -> None:
    """End the session, and the embedded Ray with it. Does nothing where Ray was never needed."""
    ray = sys.modules.get("ray")
    if ray is not None and ray.is_initialized():
        ray.shutdown()

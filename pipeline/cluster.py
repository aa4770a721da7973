"""The only place that connects to Ray: `RAY_ADDRESS` if set, else an embedded instance of two to a
few workers.

Starting Ray takes 10 s and more, so a stage asks for it only once it knows that there is work, and
all stages of one process share the session. The command line disconnects at the end.
"""

from __future__ import annotations

import logging
import os

from pipeline.config import RayConfig
from shards.errors import UserError

_EXCLUDED = ["/.git", "/.venv", "/runs", "/store", "/data"]


def is_external() -> bool:
    """Whether `RAY_ADDRESS` names a cluster."""
    return bool(os.environ.get("RAY_ADDRESS"))


def connect(config: RayConfig) -> None:
    """Connect this process to Ray, once.

    Raises:
        UserError: if the cluster named by RAY_ADDRESS does not answer or refuses the token.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_TRAIN_ENABLE_V2", "1")
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    if ray.is_initialized():
        return
    if not is_external():
        ray.init(
            address="local",
            num_cpus=max(config.render_workers, config.train_workers, 1),
            include_dashboard=False,
            object_store_memory=config.object_store_mb << 20,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
        return
    address = os.environ["RAY_ADDRESS"]
    try:
        ray.init(
            runtime_env={"working_dir": ".", "excludes": _EXCLUDED}, logging_level=logging.ERROR
        )
    except (ConnectionError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:160]
        hint = (
            "set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH"
            if "uthent" in reason
            else "is the cluster up?"
        )
        raise UserError(f"RAY_ADDRESS={address}: cannot connect ({reason}); {hint}") from None


def disconnect() -> None:
    """End the session, and the embedded Ray with it. Does nothing where Ray was never needed."""
    import sys

    ray = sys.modules.get("ray")
    if ray is not None and ray.is_initialized():
        ray.shutdown()

"""What has happened to a run, one JSON object a line in `runs/NAME/log.jsonl`: stages that began,
ended, failed or were interrupted, when, where, and for how long. Lines are only added.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.interrupt import Interrupted

LOG_FILE = "log.jsonl"


def log_event(run_dir: Path, event: str, **fields: Any) -> None:
    """Add a line; `fields` must be JSON."""
    where = {"host": socket.gethostname(), "pid": os.getpid()}
    line = {"at": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event}
    run_dir.mkdir(parents=True, exist_ok=True)
    with (run_dir / LOG_FILE).open("a", encoding="utf-8") as file:
        file.write(json.dumps({**line, **fields, **where}) + "\n")


@contextmanager
def logged(run_dir: Path, stage: str, **fields: Any) -> Iterator[None]:
    """Say that `stage` begins, and in the end how it ended and after how many seconds."""
    log_event(run_dir, "started", stage=stage, **fields)
    began_at = time.monotonic()
    event, more = "finished", {}
    try:
        yield
    except Interrupted:
        event = "interrupted"
        raise
    except BaseException as error:
        event, more = "failed", {"error": " ".join(f"{type(error).__name__}: {error}".split())}
        raise
    finally:
        seconds = round(time.monotonic() - began_at, 3)
        log_event(run_dir, event, stage=stage, seconds=seconds, **more)

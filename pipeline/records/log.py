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

from pipeline.terminal.interrupt import Interrupted

LOG_FILE = "log.jsonl"


@contextmanager
def logged(run_dir: Path, stage: str, **fields: Any) -> Iterator[None]:
    """Say that `stage` begins, and in the end how it ended and after how many seconds; `fields`
    must be JSON. A run that has no folder yet, and that the stage leaves without one, stays
    without.
    """
    lines = [_line("started", stage=stage, **fields)]
    if run_dir.exists():
        _append(run_dir, lines)
        lines.clear()
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
        lines.append(_line(event, stage=stage, seconds=seconds, **more))
        if run_dir.exists():
            _append(run_dir, lines)


def _line(event: str, **fields: Any) -> str:
    at = datetime.now(UTC).isoformat(timespec="milliseconds")
    where = {"host": socket.gethostname(), "pid": os.getpid()}
    return json.dumps({"at": at, "event": event, **fields, **where}) + "\n"


def _append(run_dir: Path, lines: list[str]) -> None:
    with (run_dir / LOG_FILE).open("a", encoding="utf-8") as file:
        file.writelines(lines)

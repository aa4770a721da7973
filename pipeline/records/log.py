"""What has happened to a run, one JSON object a line in `runs/NAME/log.jsonl`: stages that began,
ended, failed or were interrupted, when, where, and for how long; and in between what the package's
modules give to `logging`, such as what Ray says of a node that was lost. Lines are only added.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import Any

from pipeline.terminal.interrupt import Interrupted

LOG_FILE = "log.jsonl"
_LOGGER = logging.getLogger("pipeline")
_LOGGER.propagate = False
_LOGGER.addHandler(logging.NullHandler())  # outside a stage nobody keeps the lines


@contextmanager
def logged(run_dir: Path, stage: str, **fields: Any) -> Iterator[None]:
    """Say that `stage` begins, and in the end how it ended and after how many seconds; `fields`
    must be JSON. A run that has no folder yet, and that the stage leaves without one, stays
    without.
    """
    log = _Log(run_dir)
    log.write(_line("started", stage=stage, **fields))
    began_at = time.monotonic()
    event, more = "finished", {}
    _LOGGER.addHandler(log)
    try:
        yield
    except Interrupted:
        event = "interrupted"
        raise
    except BaseException as error:
        event, more = "failed", {"error": " ".join(f"{type(error).__name__}: {error}".split())}
        raise
    finally:
        _LOGGER.removeHandler(log)
        seconds = round(time.monotonic() - began_at, 3)
        log.write(_line(event, stage=stage, seconds=seconds, **more))


class _Log(logging.Handler):
    """The run's file; lines wait until its folder is there."""

    def __init__(self, run_dir: Path) -> None:
        super().__init__()
        self._run_dir = run_dir
        self._waiting: list[str] = []
        self._writing = Lock()

    def emit(self, record: logging.LogRecord) -> None:
        """Called from any thread, which must not end because a line cannot be written."""
        with suppress(OSError):
            self.write(_line("message", source=record.name, message=record.getMessage()))

    def write(self, line: str) -> None:
        """Add a line."""
        with self._writing:
            self._waiting.append(line)
            if self._run_dir.exists():
                with (self._run_dir / LOG_FILE).open("a", encoding="utf-8") as file:
                    file.writelines(self._waiting)
                self._waiting.clear()


def _line(event: str, **fields: Any) -> str:
    at = datetime.now(UTC).isoformat(timespec="milliseconds")
    where = {"host": socket.gethostname(), "pid": os.getpid()}
    return json.dumps({"at": at, "event": event, **fields, **where}) + "\n"

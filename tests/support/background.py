"""The command line in processes of their own that start at once: torch is imported beforehand."""

from __future__ import annotations

import multiprocessing
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.context import ForkServerProcess
from pathlib import Path

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    [
        "pipeline.__main__",
        "pipeline.generate.render",
        "pipeline.generate.stage",
        "pipeline.teacher.checkpoint",
        "pipeline.train.loop",
        "pipeline.train.stage",
    ]
)


class Background:
    """`python -m pipeline …` at work; its standard error goes to the file `log`."""

    def __init__(self, process: ForkServerProcess, log: Path) -> None:
        self.process = process
        self._log = log

    def kill(self) -> None:
        """SIGKILL, which nothing can answer."""
        self.process.kill()
        self.process.join()

    def result(self, timeout_s: float = 120) -> tuple[int, str, str]:
        """Exit code, nothing, standard error; waits for the end."""
        self.process.join(timeout_s)
        assert self.process.exitcode is not None, "still at work"
        return self.process.exitcode, "", self._log.read_text()

    def wait_until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 120
        while not condition():
            assert self.process.is_alive(), f"ended too early: {self._log.read_text()}"
            assert time.monotonic() < deadline
            time.sleep(0.001)


@contextmanager
def running(
    log: Path, *arguments: object, max_file_bytes: int | None = None
) -> Iterator[Background]:
    """Start a command; one that is still at work at the end of the block is killed."""
    texts = [str(argument) for argument in arguments]
    process = _CONTEXT.Process(target=_run, args=(texts, log, max_file_bytes))
    process.start()
    background = Background(process, log)
    try:
        yield background
    finally:
        background.kill()


def _run(arguments: list[str], log: Path, max_file_bytes: int | None) -> None:
    import torch

    from pipeline.__main__ import main

    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    sys.argv = ["pipeline", *arguments]
    torch.set_num_threads(1)
    if max_file_bytes is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (max_file_bytes, max_file_bytes))
    sys.exit(main())

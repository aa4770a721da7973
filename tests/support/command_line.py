"""The command line with any arguments: in this process, unless the test is about a process.

`run` spares the seconds that importing torch takes. `run_process` is for what only a process of its
own has, such as its environment and its modules; `start` for signals, kills and commands at once.
"""

from __future__ import annotations

import io
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple
from unittest import mock

from pipeline.__main__ import main
from tests.support.processes import PRELOADED
from tests.support.workspace import ROOT, environment

GOLDEN = ROOT / "tests" / "golden" / "stylegan2ada-cifar-tiny.pkl"
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_TIMEOUT_S = 240


class Result(NamedTuple):
    """Exit code and what was written to standard output and standard error."""

    code: int
    out: str
    errors: str


Cli = Callable[..., Result]
"""A command on a config that is at hand."""


def run(*arguments: object, answer: str = "") -> Result:
    """`python -m pipeline …` in this process; `answer` is typed."""
    out, errors = io.StringIO(), io.StringIO()
    with (
        mock.patch.object(sys, "argv", ["pipeline", *map(str, arguments)]),
        mock.patch.object(sys, "stdin", io.StringIO(answer)),
        mock.patch.dict(os.environ, COLUMNS="1000"),  # no line is broken
        redirect_stdout(out),
        redirect_stderr(errors),
        _signals_kept(),
    ):
        code = main()
    return Result(code, out.getvalue(), errors.getvalue())


def succeed(*arguments: object) -> Result:
    """The same for a command that ends well."""
    result = run(*arguments)
    assert result.code == 0, result.out + result.errors
    return result


def command(*arguments: object) -> list[str]:
    """The words that start the command line in a process of its own."""
    return [sys.executable, "-m", "pipeline", *map(str, arguments)]


def run_process(words: Sequence[str], **variables: str) -> Result:
    """Any process, in this folder and environment but for `variables`."""
    done = subprocess.run(
        words,
        cwd=ROOT,
        env=environment() | variables,
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        check=False,
    )
    return Result(done.returncode, done.stdout, done.stderr)


class Running:
    """`python -m pipeline …` at work in a process and a process group of its own."""

    def __init__(self, process: ForkServerProcess, said: Path) -> None:
        self._process = process
        self._said = said

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Return when the condition holds, with the command still at work."""
        deadline = time.monotonic() + _TIMEOUT_S
        while not condition():
            assert self._process.is_alive(), f"ended too early: {self._text('errors')}"
            assert time.monotonic() < deadline
            time.sleep(0.001)

    def kill(self) -> None:
        """SIGKILL, which nothing can answer, to the command and what it has started."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.kill()  # has it no group yet
        self._process.join()

    def result(self) -> Result:
        """Waits for the end."""
        self._process.join(_TIMEOUT_S)
        assert self._process.exitcode is not None, "still at work"
        return Result(self._process.exitcode, self._text("out"), self._text("errors"))

    def _text(self, name: str) -> str:
        return (self._said / name).read_text()


@contextmanager
def start(
    *arguments: object, max_file_bytes: int | None = None, **variables: str
) -> Iterator[Running]:
    """Start a command; one that is still at work at the end of the block is killed."""
    texts, variables = [*map(str, arguments)], environment() | variables
    with TemporaryDirectory() as said:
        given = (texts, variables, Path(said), max_file_bytes)
        process = PRELOADED.Process(target=_run_apart, args=given)
        process.start()
        running = Running(process, Path(said))
        try:
            yield running
        finally:
            running.kill()


def assert_mistake(result: tuple[int, str, str], *mentions: object) -> None:
    """Exit code 2 and one line that says why."""
    code, _, errors = result
    assert code == 2, errors
    lines = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, errors
    assert errors.rstrip().endswith(lines[0].rstrip())
    assert "Traceback" not in errors
    for mention in mentions:
        assert str(mention) in lines[0], lines[0]


def _run_apart(
    arguments: list[str], variables: dict[str, str], said: Path, max_file_bytes: int | None
) -> None:
    import torch

    os.setsid()
    for descriptor, name in ((1, "out"), (2, "errors")):
        os.dup2(os.open(said / name, os.O_WRONLY | os.O_CREAT), descriptor)
    os.environ.clear()
    os.environ.update(variables)
    os.chdir(ROOT)
    sys.argv = ["pipeline", *arguments]
    torch.set_num_threads(1)
    if max_file_bytes is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (max_file_bytes, max_file_bytes))
    sys.exit(main())


@contextmanager
def _signals_kept() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

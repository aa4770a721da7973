"""The command line in this process, which spares the seconds that importing torch takes."""

from __future__ import annotations

import io
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from unittest import mock

from pipeline.__main__ import main

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def run_here(*arguments: object, answer: str = "") -> tuple[int, str, str]:
    """`python -m pipeline …`: exit code, standard output, standard error; `answer` is typed."""
    out, errors = io.StringIO(), io.StringIO()
    with (
        mock.patch.object(sys, "argv", ["pipeline", *map(str, arguments)]),
        mock.patch.object(sys, "stdin", io.StringIO(answer)),
        redirect_stdout(out),
        redirect_stderr(errors),
        _signals_kept(),
    ):
        code = main()
    return code, out.getvalue(), errors.getvalue()


def succeed_here(*arguments: object) -> str:
    """Standard output of a command that ends well."""
    code, out, errors = run_here(*arguments)
    assert code == 0, out + errors
    return out


@contextmanager
def _signals_kept() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

"""Ctrl-C and SIGTERM: at once where nothing would be lost, else at the next safe point.

Neighbours: the command line installs `interrupt_at_once`; both trainers step inside
`deferred_interrupts` and save before they give way.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(BaseException):
    """SIGINT or SIGTERM; not a KeyboardInterrupt, which libraries would answer themselves."""


def interrupt_at_once() -> None:
    """Let both signals raise `Interrupted` in the main thread."""

    def stop(_signal: int, _frame: FrameType | None) -> None:
        raise Interrupted

    for number in _SIGNALS:
        signal.signal(number, stop)


@contextmanager
def deferred_interrupts() -> Iterator[Callable[[], bool]]:
    """Inside the block both signals only set a flag; yields a function that says whether one came.

    Outside the main thread, where Python delivers no signals, the answer is always no.
    """
    arrived = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield arrived.is_set
        return
    before = {number: signal.signal(number, lambda *_: arrived.set()) for number in _SIGNALS}
    try:
        yield arrived.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def ignore_interrupts() -> None:
    """Let neither signal disturb the clearing up after the first one."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)

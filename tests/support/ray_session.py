"""Ray in the tests' own process: one session for all tests that need nothing special of it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

from pipeline.cluster import connection
from pipeline.config.ray import RayConfig

COMMON = RayConfig(render_workers=2)
"""Two processors; starting takes some ten seconds, and every worker imports torch."""


@contextmanager
def common_session() -> Iterator[None]:
    """Within the block, commands in this process find the common session, and leave it alone; it is
    started where there is none, and kept for the next test.
    """
    with _kept_handlers(), mock.patch.object(connection, "disconnect"):
        connection.connect(COMMON)
        yield


@contextmanager
def own_session(config: RayConfig) -> Iterator[None]:
    """Within the block, commands in this process find a session of its own, made by this config and
    the environment as it is.
    """
    connection.disconnect()
    with _kept_handlers():
        connection.connect(config)
        try:
            yield
        finally:
            connection.disconnect()


@contextmanager
def _kept_handlers() -> Iterator[None]:
    """Signals are answered as before."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)

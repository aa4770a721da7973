"""One Ray in the tests' own process, for all tests that ask for it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.cluster import connection
from pipeline.config.ray import RayConfig


@contextmanager
def ray_session(config: RayConfig) -> Iterator[None]:
    """Within the block, commands in this process find it; signals are answered as before."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    connection.connect(config)
    try:
        yield
    finally:
        connection.disconnect()
        for number, handler in handlers.items():
            signal.signal(number, handler)

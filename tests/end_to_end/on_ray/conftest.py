"""One Ray for the commands of all files here, as all stages of one command have."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from pipeline.cluster import connection
from pipeline.config.ray import RayConfig


@pytest.fixture(scope="package", autouse=True)
def session() -> Iterator[None]:
    """Commands in this process find it, and leave it alone at their end."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    connection.connect(RayConfig(render_workers=2))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connection, "disconnect", lambda: None)
        yield
    connection.disconnect()
    for number, handler in handlers.items():
        signal.signal(number, handler)

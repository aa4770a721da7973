"""One Ray for the commands of all files here, as all stages of one command have."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pipeline.cluster import connection
from pipeline.config.ray import RayConfig
from tests.support.ray_session import ray_session


@pytest.fixture(scope="package", autouse=True)
def session() -> Iterator[None]:
    """Commands in this process find it, and leave it alone at their end."""
    with ray_session(RayConfig(render_workers=2)), pytest.MonkeyPatch.context() as patch:
        patch.setattr(connection, "disconnect", lambda: None)
        yield

"""One Ray for the commands of all files here, as all stages of one command have."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.ray_session import common_session


@pytest.fixture(scope="package", autouse=True)
def session() -> Iterator[None]:
    """Commands in this process find it, and leave it alone at their end."""
    with common_session():
        yield

"""A run with real images and three shards of a pool, made once, and copies of it to disturb."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.stored_pools import Site, make_site


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """Real images and three shards of a pool; read only."""
    site = make_site(tmp_path_factory.mktemp("original"))
    site.stage("real")
    site.stage("generate")
    return site


@pytest.fixture
def site(original: Site, tmp_path: Path) -> Site:
    """A copy to do with as one likes."""
    return original.copy_to(tmp_path / "site")

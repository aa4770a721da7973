"""Two runs with their numbers in the ledger, made once, and copies of them to disturb."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.measured_runs import TINY, make_run
from tests.support.stored_pools import Site, make_site


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """Runs `tiny` and `longer`; read only."""
    site = make_site(tmp_path_factory.mktemp("measured"))
    for overrides in (TINY, (*TINY, "train.epochs=3", "name=longer")):
        make_run(site, *overrides)
    return site


@pytest.fixture
def site(original: Site, tmp_path: Path) -> Site:
    """A copy to do with as one likes."""
    return original.copy_to(tmp_path / "site")

"""A tiny run on the digits: a random teacher of a few channels, 150 samples, a narrow student; and
one on folders of a dozen images, whose real images and pool are made once, and copies of it.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.command_line import Cli, Result, run
from tests.support.stored_pools import Site, make_site
from tests.support.workspace import Workspace, make_workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return make_workspace(tmp_path)


@pytest.fixture
def cli(workspace: Workspace) -> Cli:
    """A command on the config of `workspace`."""

    def call(command: str, *words: object) -> Result:
        return run(command, workspace.config, *words)

    return call


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

"""The golden checkpoint imported once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.command_line import GOLDEN, succeed


@pytest.fixture(scope="session")
def imported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The golden checkpoint as a teacher, and what the command said; read only."""
    folder = tmp_path_factory.mktemp("imported") / "teacher"
    said = succeed("import-teacher", GOLDEN, "--out", folder)
    return folder, said.out + said.errors

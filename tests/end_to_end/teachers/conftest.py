"""The golden checkpoint imported once, and the command line in this process."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from pipeline.__main__ import main
from tests.support.command_line import GOLDEN, Cli, pipeline


@pytest.fixture(scope="session")
def imported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The golden checkpoint as a teacher, and what the command said; read only."""
    folder = tmp_path_factory.mktemp("imported") / "teacher"
    done = pipeline("import-teacher", GOLDEN, "--out", folder)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout + done.stderr


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """The command line in this process; returns (exit code, standard output, standard error)."""
    monkeypatch.setenv("COLUMNS", "1000")
    for name in ("RAY_ADDRESS", "RANK", "WORLD_SIZE", "TORCHELASTIC_RUN_ID"):
        monkeypatch.delenv(name, raising=False)

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["pipeline", *map(str, arguments)])
        capsys.readouterr()
        code = main()
        said = capsys.readouterr()
        return code, said.out, said.err

    return call

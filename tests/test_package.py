"""What is declared of the installed package: its command, and files beside the Python ones."""

from __future__ import annotations

import tomllib
from fnmatch import fnmatch
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
FOLDERS = (ROOT / "pipeline", ROOT / "shards")


def test_package_command_is_the_command_line() -> None:
    from pipeline.__main__ import main
    from pipeline.terminal.command import SCRIPT

    module, _, function = PROJECT["project"]["scripts"][SCRIPT].partition(":")
    assert getattr(import_module(module), function) is main


def test_package_has_every_file_that_is_beside_its_modules() -> None:
    files = [
        path
        for folder in FOLDERS
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".py" and "__pycache__" not in path.parts
    ]
    assert {path.suffix for path in files} >= {".j2", ".js"}
    patterns = PROJECT["tool"]["setuptools"]["package-data"]["*"]
    assert [p for p in files if not any(fnmatch(p.name, pattern) for pattern in patterns)] == []


def test_package_has_every_folder_with_modules() -> None:
    folders = {path.parent for folder in FOLDERS for path in folder.rglob("*.py")}
    assert [folder for folder in folders if not (folder / "__init__.py").exists()] == []
    names = PROJECT["tool"]["setuptools"]["packages"]["find"]["include"]
    assert all(any(fnmatch(folder.name, name) for name in names) for folder in FOLDERS)


def test_package_has_the_configs_of_the_tables_where_they_are_looked_for() -> None:
    from pipeline.studies.methods import INSTALLED_METHODS
    from pipeline.studies.tables.rows import choose_configs

    ((place, patterns),) = PROJECT["tool"]["setuptools"]["data-files"].items()
    shipped = {path.stem for pattern in patterns for path in ROOT.glob(pattern)}
    assert shipped >= set(choose_configs("all"))
    assert Path(place) == INSTALLED_METHODS

"""What the Makefile hands to the command line, on a machine whose Python only repeats it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def venv(tmp_path: Path) -> Path:
    """An environment that is complete, and whose `python` prints a line for each word."""
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.write_text('#!/bin/sh\necho "started by $STARTED_BY"\nprintf "%s\\n" "$@"\n')
    python.chmod(0o755)
    (tmp_path / ".complete").touch()
    return tmp_path


def make(venv: Path, *words: str) -> list[str]:
    """Words behind `python -m pipeline`."""
    done = subprocess.run(
        ["make", "-s", *words, f"VENV={venv}"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    started, *rest = done.stdout.splitlines()
    assert (started, rest[:2]) == ("started by make", ["-m", "pipeline"])
    return rest[2:]


@pytest.mark.parametrize("target", ["real", "train", "tables", "pool-sweep", "worth", "run"])
def test_make_overrides_reach_the_command_as_they_are_typed(venv: Path, target: str) -> None:
    overrides = [
        "epochs=3",
        "name=x:y",
        'real.path=it\'s $HOME "x" #y',
        "train.features=[w, b]",
    ]
    assert make(venv, target, *overrides) == [target, "configs/digits.yaml", *overrides]


def test_make_config_may_have_a_space_and_arguments_come_before_overrides(venv: Path) -> None:
    words = ("CONFIG=my config.yaml", "ARGS=over.yaml 'train.features=[w, b]'", "name=x")
    assert make(venv, "eval", *words) == [
        "eval",
        "my config.yaml",
        "over.yaml",
        "train.features=[w, b]",
        "name=x",
    ]


def test_make_names_in_capitals_are_no_overrides(venv: Path) -> None:
    assert make(venv, "real", "RAY_ADDRESS=auto") == ["real", "configs/digits.yaml"]


@pytest.mark.parametrize("word", ["configs/folder.yaml", "CONFG=configs/folder.yaml"])
def test_make_config_in_another_place_than_config_is_refused(venv: Path, word: str) -> None:
    with pytest.raises(subprocess.CalledProcessError) as refused:
        make(venv, "real", word)
    assert f"{word}: name a config as CONFIG=configs/folder.yaml." in refused.value.stderr
    assert not refused.value.stdout


def test_make_demo_is_the_whole_road(venv: Path) -> None:
    assert make(venv, "demo", "CONFIG=a.yaml") == ["run", "a.yaml"]
    digits = ["run", "configs/digits.yaml", "configs/few-digits.yaml"]
    assert make(venv, "demo") == digits
    assert make(venv, "demo", "name=x") == [*digits, "name=x"]


def test_make_import_passes_files_on(venv: Path) -> None:
    start = ["import-teacher", "a b.pt", "--out", "teachers/x"]
    assert make(venv, "import", "TEACHER=a b.pt", "OUT=teachers/x") == start
    options = ("DISCRIMINATOR=d.pt", "ARCHITECTURE=a.json", "ARGS=--help")
    assert make(venv, "import", "TEACHER=a b.pt", "OUT=teachers/x", *options) == [
        *start, "--discriminator", "d.pt", "--architecture", "a.json", "--help",
    ]  # fmt: skip

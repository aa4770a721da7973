"""Packages hidden from a process and those that it starts."""

from __future__ import annotations

import subprocess
import sys

import pytest

from benchmarks.absent import NOT_ON_A_BORROWED_GPU, environment_without
from benchmarks.accelerator.measure import gpu_tests
from tests.support.workspace import ROOT, environment

ASK = """
from importlib.util import find_spec
print([name for name in ("json", "numpy", "yaml", "typer") if find_spec(name) is not None])
try:
    import yaml.nodes
except ModuleNotFoundError as error:
    print(error.name)
"""
INDIRECTLY = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {ASK!r}], check=True)"


@pytest.mark.slow
@pytest.mark.parametrize("code", [ASK, INDIRECTLY], ids=["process", "its child"])
def test_environment_without_hides_those_packages_only(code: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment_without("yaml", "numpy", environment=environment()),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split("\n")[:2] == ["['json', 'typer']", "yaml"]


def test_environment_without_keeps_what_was_on_the_path() -> None:
    found = environment_without("yaml", environment={"PYTHONPATH": "/mine", "HOME": "/home"})
    assert found["PYTHONPATH"].endswith(":/mine")
    assert found["HOME"] == "/home"


@pytest.mark.slow
def test_gpu_tests_are_collected_where_ray_and_others_are_absent() -> None:
    done = subprocess.run(
        gpu_tests("-q", "--collect-only"),
        cwd=ROOT,
        env=environment_without(*NOT_ON_A_BORROWED_GPU, environment=environment()),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "tests/train/test_step.py::" in done.stdout

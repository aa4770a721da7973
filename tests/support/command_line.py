"""The command line with any arguments, in a process of its own, and what it says of a mistake."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.support.workspace import ROOT, environment

GOLDEN = ROOT / "tests" / "golden" / "stylegan2ada-cifar-tiny.pkl"
Cli = Callable[..., tuple[int, str, str]]


def pipeline(*arguments: object, code: Path | None = None) -> subprocess.CompletedProcess[str]:
    """`python -m pipeline …` in a process of its own; `code` is put on its PYTHONPATH."""
    path = {} if code is None else {"PYTHONPATH": str(code)}
    return subprocess.run(
        [sys.executable, "-m", "pipeline", *map(str, arguments)],
        cwd=ROOT,
        env=environment() | path,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def assert_mistake(result: tuple[int, str, str], *mentions: object) -> None:
    """Exit code 2 and one line that says why."""
    code, _, errors = result
    assert code == 2, errors
    lines = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, errors
    assert errors.rstrip().endswith(lines[0].rstrip())
    assert "Traceback" not in errors
    for mention in mentions:
        assert str(mention) in lines[0], lines[0]

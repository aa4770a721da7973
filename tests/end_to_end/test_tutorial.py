"""The tutorial as it is printed: its files are saved and its commands run, in another folder."""

from __future__ import annotations

import json
import re
import runpy
import shlex
from pathlib import Path

import pytest

from tests.support.command_line import Result, assert_mistake, run
from tests.support.workspace import ROOT

SAVED = re.compile(r"ave (?:this|it) as\s`(data/tutorial/[\w.]+)`:\s*$")


def follow(line: str) -> Result:
    """What a command of the page prints."""
    words = shlex.split(line)
    if words[:3] == ["python", "-m", "pipeline"]:
        return run(*words[3:])
    if words[0] == "python":
        runpy.run_path(words[1])
    elif words[:2] == ["mkdir", "-p"]:
        Path(words[2]).mkdir(parents=True)
    else:
        assert words == [".", ".venv/bin/activate"]
    return Result(0, "", "")


@pytest.mark.slow
def test_tutorial_as_printed_ends_in_a_student_that_sees_more_than_pixels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    parts = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8").split("```")
    last = Result(0, "", "")
    for prose, block in zip(parts[::2], parts[1::2], strict=False):
        kind, _, text = block.partition("\n")
        if text.startswith("error: "):
            assert_mistake(last, text.strip())
            last = Result(0, "", "")
            continue
        assert last.code == 0, last.errors
        if saved := SAVED.search(prose):
            Path(saved[1]).write_text(text, encoding="utf-8")
        elif kind == "sh":
            for line in text.splitlines():
                assert last.code == 0, last.errors
                last = follow(line)
        else:  # a table: its rows, not its numbers
            assert all(row.split("│")[1] in last.errors for row in text.splitlines())
    assert last.code == 0, last.errors
    results = json.loads(Path("runs/shapes/results.json").read_text())
    top1 = {row["representation"]: row["top1_mean"] for row in results}
    assert top1["student"] > 10 + max(top1["raw_pixels"], top1["untrained_student"])

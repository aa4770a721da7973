"""Commands on the pages are ones that the command line, the Makefile and the benchmarks take."""

from __future__ import annotations

import importlib.util
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from pipeline.__main__ import app
from pipeline.config.file import is_file, load_config

ROOT = Path(__file__).resolve().parents[1]
TUTORIAL = ROOT / "docs" / "tutorial.md"
"""Its commands are run, mistakes among them."""
PAGES = [ROOT / "README.md", *sorted({*ROOT.glob("docs/*.md")} - {TUTORIAL})]
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
STARTS = re.compile(r"(?:^|[\s/])((?:python -m (?:pipeline|benchmarks)|make)\b.*)")
OWN = {"configs/mine.yaml", "configs/x.yaml", "rotation.yaml"}
"""Configs of the reader's own."""


def commands(page: Path) -> Iterator[list[str]]:
    """Words of every command in a shell block of a page, from `python` or `make` on."""
    text = page.read_text(encoding="utf-8")
    for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            command = STARTS.search(line.partition(" #")[0])
            if command and "bash -c" not in line:  # those are looked at in tests/ray_configs
                yield shlex.split(command[1])


def check_config(words: list[str]) -> None:
    """Whether a config and its changes load; what stands for a reader's own is left out, and what
    variables of the shell add is not looked at.
    """
    if any("$" in word for word in words):
        return
    changes = [w for w in words if (is_file(w) or re.match(r"[a-z_.]+=", w)) and "…" not in w]
    files = [word for word in changes if is_file(word)]
    own = [word for word in files if word in OWN]
    config = files[0] if files and not own else "configs/digits.yaml"
    rest = [word for word in changes if word not in {config, *own}]
    load_config(ROOT / config, [str(ROOT / word) if is_file(word) else word for word in rest])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_of_a_page_are_taken(page: Path) -> None:
    group = typer.main.get_command(app)
    for words in commands(page):
        if words[0] == "make":
            assert words[1] in TARGETS, words
            check_make(words[1:])
        elif words[2] == "pipeline":
            context = group.make_context("pipeline", words[3:])
            command = group.get_command(context, words[3])
            assert command is not None, words
            command.make_context(words[3], words[4:])
            if words[3] not in ("shards", "results", "import-teacher", "inspect-teacher", "help"):
                check_config(words[4:])
        else:
            assert importlib.util.find_spec(words[2]) is not None, words


def check_make(words: list[str]) -> None:
    targets = [word for word in words if "=" not in word]
    assert set(targets) <= TARGETS, words
    given = dict(word.split("=", 1) for word in words if "=" in word)
    config = [given["CONFIG"]] if "CONFIG" in given else []
    changes = [f"{name}={value}" for name, value in given.items() if name.lower() == name]
    check_config([*config, *shlex.split(given.get("ARGS", "")), *changes])

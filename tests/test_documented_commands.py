"""Commands on the pages: the command line, the Makefile and the benchmarks take each of them,
`--dry-run` has nothing to refuse, and a test elsewhere runs its like at toy size, or the page says
that none does.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import importlib.util
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from unittest import mock

import pytest
import typer

from pipeline.__main__ import app
from pipeline.config.file import is_file, load_config
from tests.support.command_line import run

ROOT = Path(__file__).resolve().parents[1]
TUTORIAL = ROOT / "docs" / "tutorial.md"
"""Its commands are run, mistakes among them."""
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted({*ROOT.glob("docs/*.md"), *ROOT.glob("*/*.md")} - {TUTORIAL}),
]
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
STARTS = re.compile(
    r"(?:^|[\s/])((?:python3? -m (?:pipeline|benchmarks)|torchrun .*-m pipeline|make [a-z])\b.*)"
)
INLINE = re.compile(r"`((?:python3? -m (?:pipeline|benchmarks)|make [a-z-]+)\b[^`…]*)`")
OWN = {"configs/mine.yaml", "configs/x.yaml", "rotation.yaml"}
"""Configs of the reader's own."""
NOT_TRIED = re.compile(r"[Nn]o test runs (?:it|this|them|these)")
"""What a page says of commands that only their readers run."""
CALLS = {"run", "succeed", "start", "command", "cli", "stage", "try_stage"}
"""Functions of `tests/support` that run a command, by whatever name a test has them."""


def blocks(page: Path) -> Iterator[list[str]]:
    """Words of every command in a shell block of a page, from `python` or `make` on."""
    text = page.read_text(encoding="utf-8")
    for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL):
        arrays = dict(re.findall(r"^(\w+)=\((.*?)\)$", block, re.DOTALL | re.MULTILINE))
        for line in block.replace("\\\n", " ").splitlines():
            command = STARTS.search(line.partition(" #")[0])
            if command and "bash -c" not in line:  # those are looked at in tests/ray_configs
                whole = command[1]
                for name, words in arrays.items():
                    whole = whole.replace(f'"${{{name}[@]}}"', words)
                yield shlex.split(whole)


def mentions(page: Path) -> Iterator[list[str]]:
    """Words of every command within a sentence of a page; maybe without its config."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for command in INLINE.findall(text):
        yield shlex.split(command)


def own_part(words: list[str]) -> tuple[str, list[str]]:
    """`make`, `pipeline` or the name of a benchmark, and the words behind it."""
    if words[0] == "make":
        return "make", words[1:]
    module = words.index("-m") + 1
    return words[module], words[module + 1 :]


def of_targets(words: list[str]) -> tuple[list[str], list[str]]:
    """Targets of `make`, and the config and changes that they pass on."""
    targets = [word for word in words if "=" not in word]
    given = dict(word.split("=", 1) for word in words if "=" in word)
    config = [given["CONFIG"]] if "CONFIG" in given else []
    changes = [f"{name}={value}" for name, value in given.items() if name.lower() == name]
    return targets, [*config, *shlex.split(given.get("ARGS", "")), *changes]


def config_words(words: list[str]) -> list[str]:
    """Config and changes of a command; the digits' for a reader's own config, and without what
    stands for something of the reader's.
    """
    changes = [w for w in words if (is_file(w) or re.match(r"[a-z_.]+=", w)) and "…" not in w]
    changes = [word for word in changes if "$" not in word and word not in OWN]
    files = [word for word in changes if is_file(word)]
    rest = [word for word in changes if word not in files[:1]]
    return [*(files[:1] or ["configs/digits.yaml"]), *rest]


@cache
def takes_dry_run(command: str) -> bool:
    group = typer.main.get_command(app)
    found = group.get_command(group.make_context("pipeline", [command, "--help"]), command)
    return found is not None and any("--dry-run" in option.opts for option in found.params)


def check_pipeline(words: list[str]) -> None:
    """A command with its config: options are known, and a dry run finds nothing to refuse."""
    group = typer.main.get_command(app)
    command = group.get_command(group.make_context("pipeline", words), words[0])
    assert command is not None, words
    command.make_context(words[0], words[1:])
    loaded = ("embed", "neighbours", "export", "finish")
    made_before = any(word.startswith("teacher.checkpoint=runs/") for word in words)
    if takes_dry_run(words[0]) and not made_before:  # by another command of the page
        ended = run(words[0], *config_words(words[1:]), "--dry-run")
        assert ended.code == 0, (words, ended.errors)
    elif words[0] in loaded or made_before:
        config, *changes = config_words(words[1:])
        load_config(Path(config), changes)


def check_benchmark(module: str, words: list[str]) -> None:
    """Options are known; nothing is measured."""
    spec = importlib.util.find_spec(module)
    assert spec is not None, module
    is_package = spec.submodule_search_locations is not None
    main = importlib.import_module(f"{module}.__main__" if is_package else module)
    if hasattr(main, "app"):
        return  # of typer: its options are tried in tests/benchmarks
    taken = argparse.ArgumentParser.parse_args

    def stop(parser: argparse.ArgumentParser, *_: object) -> None:
        taken(parser, words)
        raise StopIteration

    with (
        mock.patch.object(argparse.ArgumentParser, "parse_args", stop),
        mock.patch.object(sys, "argv", [module, *words]),
        pytest.raises(StopIteration),
    ):
        main.main()


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder as a fresh clone is: configs and teachers, and nothing made yet."""
    for name in ("configs", "teachers"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("clone")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_of_a_page_are_taken(page: Path) -> None:
    for words in blocks(page):
        kind, rest = own_part(words)
        if kind == "make":
            targets, passed = of_targets(rest)
            assert set(targets) <= TARGETS, words
            for target in filter(takes_dry_run, targets):
                check_pipeline([target, *config_words(passed)])
        elif kind == "pipeline":
            check_pipeline(rest)
        else:
            check_benchmark(kind, rest)


@cache
def run_by_tests() -> set[str]:
    """Subcommands that a test runs, and benchmarks of which it runs a part."""
    found = set()
    for path in (ROOT / "tests").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
                name = node.func.attr if isinstance(node.func, ast.Attribute) else node.func
                name = name.id if isinstance(name, ast.Name) else name
                if name in CALLS:
                    found.add(str(node.args[0].value))
            elif isinstance(node, ast.ImportFrom) and "benchmarks" in str(node.module):
                found |= {f"{node.module}.{alias.name}" for alias in node.names}
                found.add(str(node.module))
    return found


@cache
def of_recipe(target: str) -> set[str]:
    """What a target of the Makefile starts: subcommands and modules."""
    shown = subprocess.run(
        ["make", "-n", target, "TEACHER=x"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    started = re.findall(r"-m (?:pipeline ([a-z-]+)|([\w.]+))", shown.stdout)
    return {command or module for command, module in started}


def started_by(words: list[str]) -> set[str]:
    kind, rest = own_part(words)
    if kind == "make":
        return set().union(*map(of_recipe, of_targets(rest)[0]))
    return {rest[0]} if kind == "pipeline" and rest else {kind}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_of_a_page_are_run_by_a_test_or_the_page_says_that_none_does(page: Path) -> None:
    tried = run_by_tests() | {"pytest", "ruff", "mypy", "venv", "pip"}
    tried |= {name.rpartition(".")[0] for name in tried if name.startswith("benchmarks.")}
    commands = [words for words in (*blocks(page), *mentions(page)) if not set(words) & {"STAGE"}]
    untried = set().union(*map(started_by, commands)) - tried
    assert not untried or NOT_TRIED.search(page.read_text(encoding="utf-8")), untried

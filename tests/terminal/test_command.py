"""What was typed, and what messages advise from it."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from pipeline.terminal.command import Command

MINE = "my configs/mine.yaml"
MAKE = {"STARTED_BY": "make"}
MODULE = "/site/pipeline/__main__.py"


def typed(*words: str, program: str = MODULE, **environment: str) -> Command:
    return Command.typed([program, *words], environment)


def advise(command: Command, name: str) -> str:
    return command.advise(f"nothing there; run `make {name}` first").partition("`")[2][:-7]


def test_advice_has_config_and_changes_of_the_command_that_was_typed() -> None:
    over = "configs/methods/squeeze.yaml"
    command = typed("train", MINE, over, "train.features=[w]", "name=x", "--dry-run")
    line = advise(command, "real")
    assert line.startswith("python -m pipeline real 'my configs/mine.yaml' ")
    assert shlex.split(line)[4:] == [MINE, over, "train.features=[w]", "name=x"]


@pytest.mark.parametrize("name", ["real", "teacher", "generate", "train", "eval", "report"])
def test_advice_of_a_command_that_make_started_is_a_target(name: str) -> None:
    assert advise(typed("run", "a.yaml", **MAKE), name) == f"make {name} CONFIG=a.yaml"
    line = advise(typed("run", MINE, "name=x", "train.features=[w, x]", **MAKE), name)
    make, target, config, arguments = shlex.split(line)
    assert (make, target, config) == ("make", name, f"CONFIG={MINE}")
    assert shlex.split(arguments.removeprefix("ARGS=")) == ["name=x", "train.features=[w, x]"]


def test_advice_of_a_command_without_a_target_goes_through_the_module() -> None:
    said = "see `python -m pipeline transfer` or `python -m pipeline finetune`"
    for environment in ({}, MAKE):
        assert typed("eval", "a.yaml", **environment).advise(said) == (
            "see `python -m pipeline transfer a.yaml` or `python -m pipeline finetune a.yaml`"
        )


def test_advice_of_the_installed_command_is_that_command() -> None:
    command = typed("train", "a.yaml", program="/venv/bin/squeeze-and-span")
    assert advise(command, "real") == "squeeze-and-span real a.yaml"


@pytest.mark.parametrize(
    "words", [(), ("shards", "list"), ("import-teacher", "net.pkl", "--out", "t")]
)
def test_advice_of_a_command_without_a_config_stays_as_it_is(words: tuple[str, ...]) -> None:
    assert typed(*words).advise("`make real` fills it") == "`make real` fills it"


def test_advice_leaves_whole_commands_and_other_targets_alone() -> None:
    said = "`make eval name=b`, `make import`, `python -m pipeline shards gc --delete`"
    assert typed("results", "a.yaml").advise(said) == said


def test_advice_takes_the_place_of_a_config_that_stands_for_any() -> None:
    said = "`make eval CONFIG=configs/x.yaml` measures them"
    line = "`python -m pipeline eval a.yaml` measures them"
    assert typed("results", "a.yaml").advise(said) == line
    assert typed("results").advise(said) == said


def test_typed_options_and_filters_are_no_changes() -> None:
    words = ("results", "--out", "b.md", "a.yaml", "probe=linear", "paths.runs=r", "--compare")
    command = typed(*words, "x", "y")
    assert (command.config, command.changes) == ("a.yaml", ("paths.runs=r",))
    assert command.out == typed("export", "a.yaml", "--out=b.md").out == Path("b.md")
    assert typed("export", "a.yaml").out is None

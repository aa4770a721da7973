"""The command as it was typed, from which messages advise the next one.

A message names a command without its config, `make train`, or with `CONFIG=configs/x.yaml` where
there may be none. Where it is printed, that becomes the command that this person types: with config
and changes, by the road by which this one was started. Neighbours: `__main__.py` prints errors, the
`Makefile` says that it was the one to start.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from pipeline.config.file import is_file
from pipeline.terminal.progress import console

MODULE = "python -m pipeline"
SCRIPT = "squeeze-and-span"
STARTED_BY = "STARTED_BY"
"""Environment variable that the Makefile sets to `make`."""
_TARGETS = ("real", "teacher", "generate", "train", "eval", "report", "run", "demo", "tables",
            "quality-sweep", "pool-sweep", "worth")  # fmt: skip
_COMMANDS = (*_TARGETS, "transfer", "finetune", "export")
_ADVICE = re.compile(rf"`(?:make|{MODULE}) ({'|'.join(_COMMANDS)})(?: CONFIG=configs/x\.yaml)?`")


@dataclass(frozen=True)
class Command:
    """A command of a config: what was typed."""

    program: str
    """`make`, `python -m pipeline` or `squeeze-and-span`."""
    name: str
    """Such as train."""
    config: str | None
    """None for a command without one."""
    changes: tuple[str, ...]
    """Overrides and files that are laid over the config."""
    out: Path | None
    """Of `--out`."""

    @classmethod
    def typed(cls, arguments: Sequence[str], environment: Mapping[str, str]) -> Command:
        """From words such as `sys.argv` and variables such as `os.environ`."""
        program, *rest = arguments
        is_script = Path(program).stem == SCRIPT
        by_make = environment.get(STARTED_BY) == "make"
        words = [word for word in rest if not word.startswith("-")]
        files = [word for word in words if is_file(word)]
        config = files[0] if files else None
        later = words[words.index(config) + 1 :] if config else []
        return cls(
            program="make" if by_make else SCRIPT if is_script else MODULE,
            name=rest[0] if rest else "",
            config=config,
            changes=tuple(word for word in later if is_file(word) or is_override(word)),
            out=_option(rest, "--out"),
        )

    def line(self, name: str) -> str:
        """Command `name` with this config and these changes, to be pasted into a shell."""
        if self.config is None:
            return f"{self.program} {name}"
        if self.program != "make" or name not in _TARGETS:
            program = MODULE if self.program == "make" else self.program
            return f"{program} {shlex.join([name, self.config, *self.changes])}"
        changes = shlex.join(self.changes)
        return f"make {name} CONFIG={shlex.quote(self.config)}" + (
            f" ARGS={shlex.quote(changes)}" if changes else ""
        )

    def advise(self, message: str) -> str:
        """`message` with its commands as this person types them."""
        if self.config is None:
            return message
        return _ADVICE.sub(lambda match: f"`{self.line(match[1])}`", message)


def typed_command() -> Command:
    """The one that this process was started with."""
    return Command.typed(sys.argv, os.environ)


def announce(config: Path, changes: Sequence[str], run: str) -> None:
    """Say which config is read, and for which run: one that was forgotten is seen at once."""
    files = [str(config), *filter(is_file, changes)]
    console.print(f"config    {' with '.join(files)}, run {run}", soft_wrap=True)


def is_override(word: str) -> bool:
    """Whether a word is `section.field=value`."""
    field, equals, _ = word.partition("=")
    return bool(equals) and ("." in field or field == "name")


def _option(words: Sequence[str], name: str) -> Path | None:
    for word, after in pairwise([*words, ""]):
        if word.startswith(f"{name}=") or (word == name and after):
            return Path(word.removeprefix(f"{name}=") if word != name else after)
    return None

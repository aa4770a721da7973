"""What cannot be read or written, in one line with what to do about it.

Neighbour: the entry point, `pipeline/__main__.py`, prints it.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipeline.config.file import load_config
from pipeline.terminal.command import MODULE, Command
from shards.errors import UserError

_FULL = (errno.ENOSPC, errno.EDQUOT)
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)


def describe_usage(error: Any) -> str:
    """A mistake in the words of a command, as the command-line library found it, and the command
    that shows what may be typed.
    """
    text = str(error.format_message()).rstrip(".").replace("Value error, ", "")
    text = text.replace("Input should be", "must be").partition(", unable to parse")[0]
    joint = "" if text.endswith("?") else ";"
    names, context = ["--help"], error.ctx
    while context and context.parent:
        names.insert(0, context.info_name)
        context = context.parent
    shown = " ".join([MODULE, *names])
    return f"{text[:1].lower()}{text[1:]}{joint} `{shown}` shows what it takes"


def is_told(error: OSError) -> bool:
    """Whether it says enough for a line: its file, or that there is no more room."""
    return error.filename is not None or error.errno in _FULL


def describe(error: OSError, typed: Command) -> str:
    """What cannot be read or written, and what to do about it; another place for what lies where
    the command lets it be written.
    """
    if error.errno in _FULL:
        remedy = "free some space"
    elif error.errno in _FORBIDDEN:
        remedy = "check its permissions"
    else:
        remedy = "check this path"
    places = _places(typed)
    if error.filename is None:
        elsewhere = f", or write elsewhere with {', '.join(places)}" if places else ""
        return f"{error.strerror}; {remedy}{elsewhere}"
    file = Path(os.fsdecode(error.filename)).absolute()
    for name, place in places.items():
        if file.is_relative_to(place.absolute()) or place.absolute().is_relative_to(file):
            remedy += f", or write elsewhere with {name}"
            break
    is_taken = isinstance(error, FileExistsError)
    reason = "a file where a folder should be" if is_taken else error.strerror
    return f"{error.filename}: {reason}; {remedy}"


def _places(typed: Command) -> dict[str, Path]:
    """Where the command writes, by what chooses the place."""
    chosen = {} if typed.out is None else {"--out …": typed.out}
    is_of_run = typed.name in ("embed", "neighbours")  # they write elsewhere, too
    if (chosen and not is_of_run) or typed.name == "results":  # to the terminal
        return chosen
    with suppress(UserError):
        config = load_config(Path(typed.config or ""), typed.changes)
        if typed.name == "export":
            return {"--out …": config.run_dir / "export"}
        paths = config.paths
        return chosen | {
            "paths.runs=…": paths.runs,
            "paths.store=…": Path(paths.store),
            "paths.cache=…": paths.cache,
        }
    return chosen

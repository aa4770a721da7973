"""Digests of files, of lists of files, and of the user's own code."""

from __future__ import annotations

import hashlib
import importlib.util
import os
from collections.abc import Iterable
from pathlib import Path

from shards.errors import UserError


def file_digest(path: Path) -> str:
    """SHA-256 of a file, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def files_digest(root: Path, files: Iterable[Path]) -> str:
    """SHA-256 over names below `root`, sizes and modification times of `files`, which are there:
    cheap enough to ask every time.
    """
    lines = [
        f"{file.relative_to(root)} {(stat := file.stat()).st_size} {stat.st_mtime_ns}"
        for file in files
    ]
    return hashlib.sha256(os.fsencode("\n".join(lines))).hexdigest()


def code_digest(place: str, field: str) -> str:
    """SHA-256 of the source file that `place` ("package.module:name") lives in; nothing is run.

    Raises:
        UserError: naming the config's `field`, if there is no such module.
    """
    name = place.partition(":")[0]
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        spec = None
    if spec is None or spec.origin is None or not Path(spec.origin).is_file():
        raise UserError(
            f"{field}={place}: there is no Python module {name}; run where it can be imported, or "
            "set PYTHONPATH"
        )
    return file_digest(Path(spec.origin))

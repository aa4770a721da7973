"""Code of the user's own that a config names: `package.module:name`."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from pipeline.records.record import file_digest
from shards.errors import UserError


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

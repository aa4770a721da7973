"""What an evaluation has found so far, a file for each part: it goes on where it was.

A part belongs to one evaluation, by its fingerprint; what another one left is not taken.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from shards.atomic import write_atomic

T = TypeVar("T")


@dataclass(frozen=True)
class Parts:
    """Files in `folder` of the evaluation with `fingerprint`."""

    folder: Path
    fingerprint: str

    def find(self, name: str, kind: type[T]) -> T | None:
        """The part `name`, None if it is not there, or damaged."""
        try:
            kept = json.loads(self._path(name).read_text(encoding="utf-8"))
            if kept["fingerprint"] != self.fingerprint:
                return None
            found: T = TypeAdapter(kind).validate_python(kept["found"])
            return found
        except (OSError, ValueError, KeyError, TypeError, ValidationError):
            return None

    def keep(self, name: str, found: T, kind: type[T]) -> T:
        """Leave the part `name`; returns it."""
        content: dict[str, Any] = {
            "fingerprint": self.fingerprint,
            "found": TypeAdapter(kind).dump_python(found, mode="json"),
        }
        write_atomic(self._path(name), json.dumps(content) + "\n")
        return found

    def get(self, name: str, kind: type[T], find: Callable[[], T]) -> T:
        """The part `name`, found now and kept if it is not there."""
        kept = self.find(name, kind)
        return self.keep(name, find(), kind) if kept is None else kept

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.json"

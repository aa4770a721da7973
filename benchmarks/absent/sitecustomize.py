"""Hides the packages named in ABSENT_PACKAGES from the finder that looks through `sys.path`.

Python runs this as it starts, where this folder is on the PYTHONPATH; it imports nothing of ours.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

_HIDDEN = frozenset(filter(None, os.environ.get("ABSENT_PACKAGES", "").split(",")))


class _Finder(PathFinder):
    @classmethod
    def find_spec(
        cls,
        fullname: str,
        path: Sequence[str] | None = None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        if fullname.partition(".")[0] in _HIDDEN:
            return None
        return PathFinder.find_spec(fullname, path, target)


sys.meta_path[sys.meta_path.index(PathFinder)] = _Finder

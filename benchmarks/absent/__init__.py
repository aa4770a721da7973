"""Packages that look as if they were not installed, to try here what a smaller environment has.

Not a mock: `import` and `find_spec` answer as they do where a package is missing, in a process
started with `environment_without`, in those that it starts, and before anything else is imported.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

NOT_ON_A_BORROWED_GPU = ("ray", "webdataset", "faiss", "moto", "werkzeug", "umap")
"""What the path without Ray does without."""
VARIABLE = "ABSENT_PACKAGES"
"""Read by `sitecustomize.py`, which Python runs as it starts."""


def environment_without(
    *packages: str, environment: Mapping[str, str] | None = None
) -> dict[str, str]:
    """`environment`, or this process's, for a Python in which `packages`, by the names that are
    imported, are not installed.
    """
    base = dict(os.environ if environment is None else environment)
    paths = [str(Path(__file__).resolve().parent), base.get("PYTHONPATH", "")]
    return {
        **base,
        VARIABLE: ",".join(packages),
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
    }

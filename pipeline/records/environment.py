"""By which code something was made: the commit of the checkout, and versions of packages."""

from __future__ import annotations

import os
import platform
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path

_PACKAGES = (
    "torch",
    "torchvision",
    "numpy",
    "ray",
    "webdataset",
    "pyarrow",
    "scikit-learn",
    "timm",
    "faiss-gpu",
    "faiss-cpu",
)


@cache
def current_commit() -> str | None:
    """Commit of the checkout that this process runs; of a copy outside git what the environment
    variable SOURCE_COMMIT says, or None.

    `+changes` is added if tracked files differ from it. Asked first when the command line starts:
    the checkout may move on while a stage runs.
    """
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return os.environ.get("SOURCE_COMMIT")
    describe = "describe --always --abbrev=40 --dirty=+changes --exclude=*"
    try:
        command = ["git", "-C", str(root), *describe.split()]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def installed_versions() -> dict[str, str]:
    """Versions of Python and of the packages that shape results."""
    versions = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions

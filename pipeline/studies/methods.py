"""Where the ways to train lie, files to be laid over a config: `configs/methods/`."""

from __future__ import annotations

import sys
from pathlib import Path

from shards.errors import UserError

METHODS_FOLDER = "methods"
INSTALLED_METHODS = Path("share") / "squeeze-and-span" / METHODS_FOLDER
"""Where an installed package has them in its environment, as pyproject.toml says."""
_SHIPPED = (
    Path(__file__).resolve().parents[2] / "configs" / METHODS_FOLDER,
    Path(sys.prefix) / INSTALLED_METHODS,
)


def find_methods(path: Path) -> Path:
    """The folder beside the config in `path`, or the one that ships."""
    beside = path.parent / METHODS_FOLDER
    for folder in (beside, *_SHIPPED):
        if folder.is_dir():
            return folder
    raise UserError(f"{beside}: no such folder; copy configs/methods of the source code there")

"""The JSON in which a person says what a file does not: the family, and what no shape tells."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.teacher.importing.source import read_json
from shards.errors import UserError


def read_architecture(path: Path) -> dict[str, Any]:
    """The JSON object in `path`.

    Raises:
        UserError: if it is not one with a known family.
    """
    content = read_json(path)
    if not isinstance(content, dict) or content.get("family") not in ("stylegan2", "dcgan"):
        raise UserError(f'{path}: family must be "stylegan2" or "dcgan"')
    return content

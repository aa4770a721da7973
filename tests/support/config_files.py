"""Config files of tests, and what is said of those with a mistake."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.config.file import load_config
from shards.errors import UserError


def write(folder: Path, content: Any) -> Path:
    path = folder / "run.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return path


def load_error(path: Path, *overrides: str) -> str:
    with pytest.raises(UserError) as raised:
        load_config(path, overrides)
    message = str(raised.value)
    assert "\n" not in message
    return message

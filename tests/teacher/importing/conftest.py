"""The fixture that reads bytes as an official pickle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.teacher.importing.source import read_file
from tests.support.pickles import Read


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """What `read_pickle` makes of the given bytes in a file `network.pkl`."""

    def write_and_read(content: bytes) -> Any:
        path = tmp_path / "network.pkl"
        path.write_bytes(content)
        return read_file(path)

    return write_and_read

"""A run with a student."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.embedding_runs import StudentRun, make_student_run


@pytest.fixture
def student_run(tmp_path: Path) -> StudentRun:
    return make_student_run(tmp_path / "run")

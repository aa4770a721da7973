"""What the tests of stage `real` share."""

from __future__ import annotations

import pytest

from tests.support.real_runs import Counts


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> Counts:
    return Counts(monkeypatch)

"""Waiting for Ray's tasks, without Ray."""

from __future__ import annotations

import os
import signal
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.cluster.connection import wait_for_any
from pipeline.terminal.interrupt import Interrupted, interrupt_at_once


def test_wait_for_any_answers_a_signal_only_when_ray_has_returned(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    returned = []

    def wait(references: list[Any], **_: object) -> tuple[list[Any], list[Any]]:
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(1000):  # a signal is delivered between two instructions
            pass
        returned.append(True)
        return references[:1], references[1:]

    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(wait=wait))
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    try:
        interrupt_at_once()
        with pytest.raises(Interrupted):
            wait_for_any(["a", "b"])
    finally:
        for number, handler in zip((signal.SIGINT, signal.SIGTERM), before, strict=True):
            signal.signal(number, handler)
    assert returned == [True]


def test_wait_for_any_returns_what_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = SimpleNamespace(wait=lambda references, **_: (references[1:], references[:1]))
    monkeypatch.setitem(sys.modules, "ray", ray)
    assert wait_for_any({"a": 1, "b": 2}) == ["b"]

"""A process and what it starts, whatever their sessions, watched and ended together."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from benchmarks.scale.process_tree import ProcessTree

HELD_MB = 64
CHILD = f"held = b'x' * ({HELD_MB} << 20); print('up', flush=True); import time; time.sleep(600)"
PARENT = f"""
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {CHILD!r}], start_new_session=True)
child.wait()
"""


@pytest.fixture
def family() -> Iterator[subprocess.Popen[bytes]]:
    """A process whose child, in a session of its own, holds memory."""
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], stdout=subprocess.PIPE, start_new_session=True
    ) as parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        yield parent
        parent.kill()


def test_tree_sees_memory_of_processes_in_other_sessions(family: subprocess.Popen[bytes]) -> None:
    tree = ProcessTree(family.pid)
    assert len(tree.look()) == 2
    (child,) = (seen for pid, seen in tree.seen.items() if pid != family.pid)
    assert child.peak_mb >= child.anonymous_mb > HELD_MB > tree.seen[family.pid].anonymous_mb
    assert child.titles == {sys.executable}
    tree.kill()


def test_tree_is_killed_whole_and_remembered(family: subprocess.Popen[bytes]) -> None:
    tree = ProcessTree(family.pid)
    since = time.monotonic()
    tree.kill()
    assert time.monotonic() - since < 20
    assert tree.look() == []
    assert len(tree.seen) == 2
    assert family.wait() < 0


def test_tree_of_an_orphan_is_still_killed(family: subprocess.Popen[bytes]) -> None:
    tree = ProcessTree(family.pid)
    tree.look()
    family.kill()
    family.wait()
    assert len(tree.look()) == 1
    tree.kill()
    assert tree.look() == []

"""More shards are open at once than a shell's usual limit on files."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from shards.open_files import allow_open_files
from tests.support.tiny_shards import open_reader, write_real_shards

ROOM = 64


@pytest.fixture
def hard_limit() -> Iterator[int]:
    """What the system allows, where the process's own limit leaves room for few more files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + ROOM, hard))
    allow_open_files.cache_clear()
    yield hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_reader_opens_more_shards_than_the_shell_would_allow(
    tmp_path: Path, hard_limit: int
) -> None:
    write_real_shards(tmp_path, num_samples=2 * ROOM, samples_per_shard=1)
    reader = open_reader(tmp_path)
    assert len(reader.gather("label", np.arange(2 * ROOM))) == 2 * ROOM


def test_allow_open_files_raises_the_process_own_limit_alone(hard_limit: int) -> None:
    allow_open_files()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert hard == hard_limit
    assert soft == hard or soft >= 1024

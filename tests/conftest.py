"""Fixtures of more than one test file: tiny shards of both kinds in a temporary folder."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pipeline.train.data import TrainingShards
from shards.reader import ShardReader
from tests.tiny_shards import (
    open_reader,
    open_training_shards,
    write_pool,
    write_real_shards,
)


@pytest.fixture
def real_folder(tmp_path: Path) -> Path:
    """40 labelled real images of 16 px in three shards."""
    write_real_shards(tmp_path / "real")
    return tmp_path / "real"


@pytest.fixture
def real_reader(real_folder: Path) -> ShardReader:
    return open_reader(real_folder)


@pytest.fixture(scope="session")
def training_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`real/` with 40 images and `pool/` with 40 samples of a teacher; read only."""
    folder = tmp_path_factory.mktemp("training")
    write_real_shards(folder / "real")
    write_pool(folder / "pool")
    return folder


@pytest.fixture
def training_shards(training_folder: Path) -> TrainingShards:
    return open_training_shards(training_folder)


def pytest_configure() -> None:
    """One thread: tensors this small gain nothing from more, and lose much on a busy machine."""
    torch.set_num_threads(1)

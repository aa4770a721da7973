"""A student that draws while it trains draws a function of the step."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pipeline.train.data import TrainingShards
from pipeline.train.loop import STUDENT_FILE
from pipeline.train.step import StudentTrainer
from tests.support.tiny_shards import TRAIN_CONFIG
from tests.support.trainings import CPU, changed, make_method, open_stream, run_training

pytestmark = pytest.mark.slow
VIT = {
    "architecture": "timm:test_vit",
    "options": {"img_size": 16, "patch_size": 4, "drop_path_rate": 0.5, "proj_drop_rate": 0.2},
    "projector_layers": 2,
    "embedding_dim": 16,
}
CONFIG = changed(
    TRAIN_CONFIG, student=VIT, method={"name": "vicreg"}, images="real", epochs=6
)  # twelve steps


class Killed(Exception):
    pass


def kill(_samples_seen: int, _metrics: dict[str, float]) -> bool:
    raise Killed


def test_training_that_was_killed_draws_as_one_that_was_not(
    training_shards: TrainingShards, tmp_path: Path
) -> None:
    shards = replace(training_shards, synthetic=None, features=())
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for folder in (whole, parts):
        folder.mkdir()
    run_training(CONFIG, shards, whole, "f", lambda *_: False)
    with pytest.raises(Killed):
        run_training(CONFIG, shards, parts, "f", kill)
    torch.manual_seed(5)
    run_training(CONFIG, shards, parts, "f", lambda *_: False)
    assert (whole / STUDENT_FILE).read_bytes() == (parts / STUDENT_FILE).read_bytes()


def test_losses_of_a_step_are_its_own(training_shards: TrainingShards) -> None:
    shards = replace(training_shards, synthetic=None, features=())
    trainer = StudentTrainer(CONFIG, make_method(CONFIG), CPU)
    batch = open_stream(shards, CONFIG).batch(0)
    first, other, again = (trainer.losses(batch, step).loss.item() for step in (0, 1, 0))
    assert first == again != other

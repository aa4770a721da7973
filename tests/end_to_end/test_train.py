"""Trainings through the command line that are killed and typed again."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.command_line import start
from tests.support.stored_pools import TINY_TRAINING, Site

pytestmark = pytest.mark.slow
TRAINING = (
    *TINY_TRAINING,
    "train.epochs=100",
    "train.checkpoint_interval_s=0",
)


def test_train_killed_at_any_moment_ends_as_an_undisturbed_run(site: Site) -> None:
    site.stage("train", *TRAINING)
    killed = (*TRAINING, "name=killed")
    for stage in ("real", "generate"):
        site.stage(stage, *killed)
    folder = site.runs / "killed" / "train"
    metrics = folder / "metrics.jsonl"
    for kill_after in (1, 2):
        with start("train", site.config, *site.places, *killed) as run:
            run.wait_until(lambda count=kill_after: num_lines(metrics) >= count)
            run.kill()
    assert not (folder / "record.json").exists()
    site.stage("train", *killed)
    for name in ("student.safetensors", "metrics.jsonl"):
        assert (folder / name).read_bytes() == (site.runs / "tiny" / "train" / name).read_bytes()


def num_lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0

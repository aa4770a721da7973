"""Trainings in two processes, which Ray Train or torchrun start."""

from __future__ import annotations

import json

import pytest
from safetensors.torch import save_file

from pipeline.config.student import StudentConfig
from pipeline.records.digests import file_digest
from pipeline.student.backbone import build_backbone
from tests.support.command_line import command, run_process
from tests.support.stored_pools import TINY_TRAINING, Site

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.usefixtures("ray"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # Ray Train's, of its own ways
]
TINY = (*TINY_TRAINING, "train.epochs=2")


def torchrun(site: Site, *overrides: str) -> None:
    """Train in two processes that torchrun starts."""
    python, *words = command("train", site.config, *site.places, *overrides)
    done = run_process([python, "-m", "torch.distributed.run", "--nproc_per_node=2", *words])
    assert done.code == 0, done.errors


def test_two_workers_of_ray_train_and_of_torchrun_finish_the_same_student(site: Site) -> None:
    """From the same weights of a file."""
    start = site.folder / "start.safetensors"
    save_file(build_backbone(StudentConfig(width=4), seed=5).state_dict(), start)
    given = (*TINY, f"train.init={start}")
    by_ray, by_torchrun = (*given, "name=ray"), (*given, "name=torchrun")
    for overrides in (by_ray, by_torchrun):
        site.stage("real", *overrides)
        site.stage("generate", *overrides)
    site.stage("train", *by_ray, "ray.train_workers=2")
    torchrun(site, *by_torchrun)
    assert "done" in site.stage("train", *by_torchrun).errors
    ours, theirs = (
        site.runs / name / "train" / "student.safetensors" for name in ("ray", "torchrun")
    )
    assert ours.read_bytes() == theirs.read_bytes()
    for student in (ours, theirs):
        record = json.loads(student.with_name("record.json").read_text())
        assert record["outputs"]["init"] == file_digest(start)

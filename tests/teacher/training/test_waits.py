"""A teacher's training on a pretended GPU: nothing in its steps waits for the device."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks.measure import waits_raise
from pipeline.config.teacher import TeacherConfig
from pipeline.teacher.training.loop import train_teacher
from pipeline.teacher.training.step import TeacherTrainer
from tests.support.fake_cuda import FAKE_CUDA, fake_cuda

pytestmark = pytest.mark.slow

BATCH = 8
NUM_STEPS = 6
CONFIG = TeacherConfig(
    z_dim=8,
    w_dim=8,
    channel_base=64,
    channel_max=8,
    mbstd_group_size=4,
    global_batch=BATCH,
    precision="float32",
    r1_interval=2,
    path_length_weight=2.0,
    path_length_interval=3,
    style_mixing_p=0.5,
    ada_images=1000,
    ada_interval=2,
    quality_images=0,
)
IMAGES = np.random.default_rng(0).integers(0, 256, (20, 3, 16, 16)).astype(np.uint8)


class Enough(Exception):
    """Steps."""


def steps_of(trainer: TeacherTrainer, folder: Path) -> list[dict[str, Any]]:
    """What `NUM_STEPS` steps of a training return, before one of them is logged or saved."""
    step, found = trainer.step, []

    def stop(real: Tensor) -> dict[str, Tensor | float]:
        if len(found) == NUM_STEPS:
            raise Enough
        if len(found) == 3:
            trainer.ada.p = 0.5
        found.append(step(real))
        return found[-1]

    trainer.step = stop  # type: ignore[method-assign]
    with pytest.raises(Enough):
        train_teacher(
            trainer, lambda rows: IMAGES[rows], len(IMAGES), folder, "f", lambda *_: False, {}
        )
    return found


@pytest.mark.filterwarnings("ignore:User provided device_type of 'cuda':UserWarning")
@pytest.mark.parametrize("pipe", ["bgc", "upright"])
@pytest.mark.parametrize("skips", ["orig", "resnet"])
def test_teacher_training_never_waits_in_a_step_and_computes_the_same(
    tmp_path: Path, pipe: str, skips: str
) -> None:
    config = CONFIG.model_copy(update={"ada_pipe": pipe, "discriminator_skips": skips})
    expected = steps_of(TeacherTrainer(config, 16, torch.device("cpu")), tmp_path)
    with fake_cuda() as cuda:
        trainer = TeacherTrainer(config, 16, FAKE_CUDA)
        cuda.waits.clear()
        steps = steps_of(trainer, tmp_path)
        assert cuda.waits == []
        assert len({step["augment_p"] for step in steps}) >= 3  # the controller moves it, too
        found = [{name: float(value) for name, value in step.items()} for step in steps]
    for step, wanted in zip(found, expected, strict=True):
        # Adam's sums are of another kernel's order
        assert step == pytest.approx({n: float(v) for n, v in wanted.items()}, rel=1e-3, abs=1e-4)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("pipe", ["bgc", "upright"])
def test_teacher_steps_on_a_gpu_do_not_wait_for_it(pipe: str) -> None:
    device = torch.device("cuda")
    trainer = TeacherTrainer(CONFIG.model_copy(update={"ada_pipe": pipe}), 16, device)
    real = torch.from_numpy(IMAGES[:BATCH]).to(device).float() / 127.5 - 1
    trainer.step(real)
    trainer.ada.p = 0.5
    with waits_raise():
        for _ in range(NUM_STEPS):
            trainer.step(real)

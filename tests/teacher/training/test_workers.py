"""Two workers train the teacher that one does: losses, networks, augmentation probability."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from pipeline.config.teacher import TeacherConfig
from pipeline.engine.collectives import worker_part
from pipeline.teacher.networks.discriminator import minibatch_std
from pipeline.teacher.training.step import TeacherTrainer
from tests.support.processes import run_workers

pytestmark = pytest.mark.slow

BATCH = 8
NUM_STEPS = 5
CONFIG = TeacherConfig(
    z_dim=8,
    w_dim=8,
    channel_base=64,
    channel_max=8,
    mbstd_group_size=4,
    global_batch=BATCH,
    num_images=NUM_STEPS * BATCH,
    r1_gamma=0.5,
    r1_interval=2,
    path_length_weight=2,
    path_length_interval=2,
    style_mixing_p=0.5,
    discriminator_skips="resnet",
    ada_images=20,
    ada_interval=2,
    ada_target=0.0,
)
IMAGES = torch.from_numpy(np.random.default_rng(0).uniform(-1, 1, (NUM_STEPS, BATCH, 3, 16, 16)))


def run_steps() -> dict[str, Any]:
    """All steps of this worker, in float64: what is left is the order of sums."""
    torch.set_default_dtype(torch.float64)
    try:
        trainer = TeacherTrainer(CONFIG, 16, torch.device("cpu"))
        for network in (trainer.generator, trainer.discriminator, trainer.generator_ema):
            network.double()
        rows = worker_part(BATCH)
        steps = [trainer.step(images[rows]) for images in IMAGES]
        x = IMAGES[0].reshape(BATCH, 12, 8, 8)[rows].requires_grad_()
        std = minibatch_std(x, 4)
        (gradient,) = torch.autograd.grad(std.square().mean(), x, create_graph=True)
        (second,) = torch.autograd.grad(gradient.square().sum(), x)
    finally:
        torch.set_default_dtype(torch.float32)
    weights = {
        "generator": trainer.generator.state_dict(),
        "discriminator": trainer.discriminator.state_dict(),
        "generator_ema": trainer.generator_ema.state_dict(),
    }
    metrics = [{name: float(value) for name, value in step.items()} for step in steps]
    return {"metrics": metrics, "weights": weights, "std": std.detach(), "second": second}


@pytest.fixture(scope="module")
def results(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What one process computes, and what each of two does."""
    return run_steps(), run_workers(tmp_path_factory.mktemp("workers"), 2, run_steps)


def test_two_workers_report_the_losses_of_one(
    results: tuple[dict[str, Any], list[dict[str, Any]]],
) -> None:
    single, workers = results
    assert {"path_length", "augment_p"} <= single["metrics"][0].keys()
    assert single["metrics"][-1]["augment_p"] > 0  # augmentation took part
    for worker in workers:
        for found, expected in zip(worker["metrics"], single["metrics"], strict=True):
            assert found == pytest.approx(expected, rel=1e-6)


def test_two_workers_end_with_the_networks_of_one(
    results: tuple[dict[str, Any], list[dict[str, Any]]],
) -> None:
    single, workers = results
    torch.testing.assert_close(
        workers[0]["weights"], workers[1]["weights"], rtol=0, atol=0
    )  # to the bit: both apply the same averaged gradients
    # Adam divides by the gradient's size, so that the smallest gradients carry float noise along;
    # the augmentation is computed in float32.
    torch.testing.assert_close(workers[0]["weights"], single["weights"], rtol=1e-4, atol=1e-5)


def test_minibatch_std_groups_are_those_of_the_global_batch(
    results: tuple[dict[str, Any], list[dict[str, Any]]],
) -> None:
    single, workers = results
    joined = torch.cat([worker["std"] for worker in workers])
    torch.testing.assert_close(joined, single["std"], rtol=1e-10, atol=1e-12)
    # each worker's objective is a mean over its half, so gradients are twice those of the whole
    second = torch.cat([worker["second"] for worker in workers])
    assert second.abs().max() > 0
    torch.testing.assert_close(second / 4, single["second"], rtol=1e-8, atol=1e-12)

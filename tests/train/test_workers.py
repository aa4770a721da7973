"""Two workers and four reproduce one: loss, gradients, two optimiser steps, and the batches."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partialmethod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from pipeline.config.augment import AugmentConfig
from pipeline.engine.collectives import num_workers, worker_rank
from pipeline.train.batch_norm import synchronise_batch_norm
from pipeline.train.data import TrainingShards
from pipeline.train.optimizer import StudentOptimizer
from pipeline.train.step import StudentTrainer
from shards.pool import PoolReader
from tests.support.processes import run_workers
from tests.support.tiny_shards import FEATURES, TRAIN_CONFIG, open_training_shards
from tests.support.trainings import (
    CPU,
    METHODS,
    changed,
    config_of,
    in_double,
    make_method,
    open_stream,
    parts_of,
    shards_of,
)

NUM_STEPS = 2
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "lars": {"name": "lars", "decay": "weights", "warmup_epochs": 1},
    "adamw": {"name": "adamw", "decay": "weights", "clip_norm": 0.1},
}
"""Optimisers beside SGD, of trainings by VICReg."""
GLOBAL = [*(name for name in METHODS if name != "release"), *OPTIMIZERS]
"""Methods whose statistics are of the global batch, and optimisers."""
CASES = [
    *((2, name) for name in GLOBAL),
    *((4, name) for name in ("squeeze and span", "simsiam both", "lars")),
]
"""Numbers of workers, and what they do: one of each kind where they are many."""
BLURRED = TRAIN_CONFIG.model_copy(update={"augment": AugmentConfig(blur_p=0.5, rotation_deg=10)})


def run_steps(folder: Path, name: str, rank: int, workers: int) -> dict[str, Any]:
    """Two float64 optimiser steps of one worker; its losses, first gradients and final state."""
    config = config_of("vicreg real" if name in OPTIMIZERS else name)
    if name in OPTIMIZERS:
        config = changed(config, optimizer=OPTIMIZERS[name])
    shards = shards_of(config, open_training_shards(folder))
    stream = open_stream(shards, config, rank, workers)
    method = make_method(config, shards.block_channels).double()
    method = synchronise_batch_norm(method, CPU)
    wrapped: nn.Module = method
    if workers > 1:
        wrapped = DistributedDataParallel(method, broadcast_buffers=False)
    optimizer = StudentOptimizer(config, method, CPU)
    result: dict[str, Any] = {"losses": [], "metrics": []}
    wrapped.train()
    for step in range(NUM_STEPS):
        output = wrapped(in_double(stream.batch(step)))
        output.loss.backward()
        if step == 0:
            result["gradients"] = {
                name: parameter.grad.clone()
                for name, parameter in method.named_parameters()
                if parameter.grad is not None
            }
        optimizer.step(epoch=0.5)
        result["losses"].append(output.loss.detach())
        result["metrics"].append(output.metrics())
    result["state"] = method.state_dict()
    return result


def run_all(folder: Path) -> dict[str, dict[str, Any]]:
    """All that as many workers do."""
    count = num_workers()
    names = [name for workers, name in CASES if workers == max(count, 2)]
    return {name: run_steps(folder, name, worker_rank(), count) for name in names}


@pytest.fixture(scope="module")
def alone(training_folder: Path) -> dict[str, Any]:
    """What one process computes."""
    return run_all(training_folder)


@pytest.fixture(scope="module")
def group(
    training_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[int], list[dict[str, Any]]]:
    """What each of so many workers does; they do it once."""

    @cache
    def work(num_workers: int) -> list[dict[str, Any]]:
        scratch = tmp_path_factory.mktemp("workers")
        return run_workers(scratch, num_workers, run_all, training_folder)

    return work


@pytest.fixture
def each(
    num_workers: int, name: str, group: Callable[[int], list[dict[str, Any]]]
) -> list[dict[str, Any]]:
    """What each of the workers does of `name`."""
    return [worker[name] for worker in group(num_workers)]


# Everything is float64 on both sides, so only the order of sums differs: relative 1e-16 per sum,
# times the condition of a batch-normalised network of some 25 layers, stays far below 1e-9. A
# statistic taken per worker or a gradient off by a factor would show in the first digit.
RTOL, ATOL = 1e-7, 1e-10


def tolerance(name: str) -> dict[str, float]:
    """Encoding renders through the frozen generator, in float32 (relative 1.2e-7 per sum), in
    batches as small as a worker's part: sums of other lengths round differently.
    """
    is_rendering = name.startswith("encoding")
    return {"rtol": 1e-5, "atol": 1e-8} if is_rendering else {"rtol": RTOL, "atol": ATOL}


@pytest.mark.slow
@pytest.mark.parametrize(("num_workers", "name"), CASES)
def test_workers_losses_and_metrics_equal_one_workers(
    name: str, alone: dict[str, Any], each: list[dict[str, Any]]
) -> None:
    one = alone[name]
    for worker in each:
        torch.testing.assert_close(worker["losses"], one["losses"], **tolerance(name))
        for found, expected in zip(worker["metrics"], one["metrics"], strict=True):
            assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("num_workers", "name"), CASES)
def test_workers_parameter_gradients_equal_one_workers(
    name: str, alone: dict[str, Any], each: list[dict[str, Any]]
) -> None:
    one = alone[name]
    assert one["gradients"]
    for worker in each:
        torch.testing.assert_close(worker["gradients"], one["gradients"], **tolerance(name))


@pytest.mark.slow
@pytest.mark.parametrize(("num_workers", "name"), CASES)
def test_workers_after_two_steps_have_one_workers_parameters_and_running_statistics(
    name: str, alone: dict[str, Any], each: list[dict[str, Any]]
) -> None:
    one = alone[name]
    assert any(name.endswith("running_var") for name in one["state"])
    for worker in each:
        torch.testing.assert_close(worker["state"], one["state"], **tolerance(name))


@pytest.mark.parametrize("workers", [2, 4])
@pytest.mark.parametrize("step", [0, 3, 11])
def test_batch_stream_parts_of_all_ranks_are_the_single_workers_batch(
    training_shards: TrainingShards, workers: int, step: int
) -> None:
    whole = parts_of(open_stream(training_shards, BLURRED).batch(step))
    parts = [
        parts_of(open_stream(training_shards, BLURRED, rank, workers).batch(step))
        for rank in range(workers)
    ]
    for name, expected in whole.items():
        joined = torch.cat([part[name] for part in parts])
        # pooled features are copied; images pass float32 kernels whose vectorisation may depend
        # on the batch size, at values up to 3: a few units in the last place
        tolerance = 0.0 if name == "pooled" else 1e-5
        torch.testing.assert_close(joined, expected, rtol=0, atol=tolerance, msg=name)


def test_batch_stream_batch_is_a_function_of_the_step(training_shards: TrainingShards) -> None:
    first, second = (open_stream(training_shards, TRAIN_CONFIG) for _ in range(2))
    for step in range(5):
        first.batch(step)
    found, expected = (parts_of(stream.batch(2)) for stream in (first, second))
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_batch_stream_images_and_pooled_features_are_of_the_same_samples(
    training_shards: TrainingShards,
) -> None:
    still = AugmentConfig(
        crop_scale=(1, 1), crop_ratio=(1, 1), flip_p=0, jitter_p=0, grayscale_p=0, blur_p=0
    )
    config = TRAIN_CONFIG.model_copy(
        update={"augment": still, "pixel_mean": (0.0, 0.0, 0.0), "pixel_std": (1.0, 1.0, 1.0)}
    )
    batch = open_stream(training_shards, config).batch(1)
    pool = training_shards.synthetic
    assert isinstance(pool, PoolReader)
    assert batch.pooled is not None
    rows = np.arange(len(pool))
    features = torch.from_numpy(pool.gather_features(FEATURES, rows)).float()
    images = torch.from_numpy(pool.images.gather("image", rows)).float() / 255
    for image, pooled in zip(*batch.synthetic, batch.pooled, strict=True):
        row = int((features == pooled).all(1).nonzero())
        torch.testing.assert_close(image, images[row], rtol=0, atol=1e-4)


def test_batch_stream_one_pass_of_steps_shows_every_pool_sample_once(
    training_shards: TrainingShards,
) -> None:
    stream = open_stream(training_shards, TRAIN_CONFIG)
    pool = training_shards.synthetic
    assert isinstance(pool, PoolReader)
    steps = len(pool) // TRAIN_CONFIG.num_synthetic
    shown = torch.cat([parts_of(stream.batch(step))["pooled"] for step in range(steps)])
    features = torch.from_numpy(pool.gather_features(FEATURES, np.arange(len(pool)))).float()
    assert sorted(shown.tolist()) == sorted(features.tolist())


def test_batch_stream_two_views_of_a_real_image_differ(training_shards: TrainingShards) -> None:
    first, second = open_stream(training_shards, TRAIN_CONFIG).batch(0).real
    assert (first - second).abs().amax((1, 2, 3)).min() > 0.01


def test_batch_stream_batch_not_divisible_by_workers_is_refused(
    training_shards: TrainingShards,
) -> None:
    with pytest.raises(ValueError, match="divide"):
        open_stream(training_shards, TRAIN_CONFIG, num_workers=3)


def run_compiled(folder: Path) -> dict[str, Any]:
    """The first step of two trainers, one of them captured whole."""
    plainly = nn.Module.compile
    # up to the code that torch.compile writes, which takes minutes on a CPU
    nn.Module.compile = partialmethod(plainly, backend="aot_eager")  # type: ignore[method-assign]
    config, found = config_of("vicreg real"), {}
    shards = shards_of(config, open_training_shards(folder))
    for mode in ("off", "default"):
        trainer = StudentTrainer(config, make_method(config), CPU, mode)
        stream = open_stream(shards, config, worker_rank(), num_workers())
        output = trainer.losses(stream.batch(0), 0)
        trainer.backward(output)
        gradients = {n: p.grad for n, p in trainer.method.named_parameters() if p.grad is not None}
        found[mode] = {"loss": output.loss.detach(), "gradients": gradients}
    return found


@pytest.mark.slow
def test_compiled_step_of_two_workers_is_the_plain_one(
    training_folder: Path, tmp_path: Path
) -> None:
    for found in run_workers(tmp_path, 2, run_compiled, training_folder):
        torch.testing.assert_close(found["default"], found["off"], rtol=1e-3, atol=1e-5)

"""Representations of a student in training, which leave no trace."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounter

from pipeline.engine.collectives import num_workers
from pipeline.student.backbone import Normalise, build_backbone
from pipeline.train.data import TrainingShards
from pipeline.train.monitor.embed import Embedder, undisturbed
from pipeline.train.monitor.images import Shared
from pipeline.train.step import StudentTrainer
from tests.support.processes import run_workers
from tests.support.tiny_shards import TRAIN_CONFIG
from tests.support.trainings import CPU, make_method, open_stream

NUM_IMAGES = 301  # more than a batch, and not to be halved


def some_images() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (NUM_IMAGES, 3, 16, 16), generator=generator, dtype=torch.uint8)


def student() -> nn.Module:
    """In training, with statistics that have moved and one module that is frozen."""
    backbone = build_backbone(TRAIN_CONFIG.student, 0)
    backbone(torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(1)))
    backbone.get_submodule("layer4.1").eval()
    return backbone


def embed(backbone: nn.Module) -> Tensor:
    shared = Shared(NUM_IMAGES)
    own = some_images()[shared.of(np.arange(NUM_IMAGES))]
    return Embedder(TRAIN_CONFIG, CPU).embed(backbone, lambda rows: own[rows], shared)


def test_embed_is_the_backbone_in_evaluation() -> None:
    backbone = student()
    found = embed(backbone)
    normalise = Normalise(TRAIN_CONFIG.pixel_mean, TRAIN_CONFIG.pixel_std)
    with torch.no_grad():
        expected = copy.deepcopy(backbone).eval()(normalise(some_images()))
    assert found.dtype == torch.float32
    assert not found.requires_grad
    # in batches of other sizes, sums are in another order
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_embed_leaves_modes_state_and_random_numbers_as_they_were() -> None:
    backbone = student()
    modes = {name: module.training for name, module in backbone.named_modules()}
    state, numbers = copy.deepcopy(backbone.state_dict()), torch.random.get_rng_state()
    embed(backbone)
    assert {name: module.training for name, module in backbone.named_modules()} == modes
    torch.testing.assert_close(backbone.state_dict(), state, rtol=0, atol=0)
    assert torch.equal(torch.random.get_rng_state(), numbers)
    assert torch.is_grad_enabled()


def test_undisturbed_puts_back_also_what_failed() -> None:
    backbone, numbers = student(), torch.random.get_rng_state()

    def fail() -> None:
        with undisturbed(backbone, CPU):
            assert not backbone.training
            torch.rand(3)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert backbone.training
    assert not backbone.get_submodule("layer4.1").training
    assert torch.equal(torch.random.get_rng_state(), numbers)


def embed_on_each() -> dict[str, Any]:
    return {"workers": num_workers(), "vectors": embed(student())}


@pytest.mark.slow
def test_embed_by_two_workers_is_that_of_one(tmp_path: Path) -> None:
    expected = embed(student())
    for found in run_workers(tmp_path, 2, embed_on_each):
        assert found["workers"] == 2
        torch.testing.assert_close(found["vectors"], expected, rtol=1e-4, atol=1e-5)  # as above


@pytest.mark.slow
def test_embed_between_compiled_steps_compiles_nothing(training_shards: TrainingShards) -> None:
    counter = CompileCounter()
    method = make_method(TRAIN_CONFIG, training_shards.block_channels)
    trainer = StudentTrainer(TRAIN_CONFIG, method, CPU)
    method.compile(backend=counter, dynamic=False)
    stream = open_stream(training_shards, TRAIN_CONFIG)

    def step(number: int) -> None:
        trainer.update(trainer.losses(stream.batch(number), number), number, 0)

    for number in range(3):
        step(number)
    compiled = counter.frame_count
    assert compiled > 0
    embed(method.backbone)
    step(3)
    assert counter.frame_count == compiled

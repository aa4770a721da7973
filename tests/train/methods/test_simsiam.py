"""SimSiam: its loss against loops, its symmetry, its predictor."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from pipeline.train.data import TrainingShards
from pipeline.train.method import Batch
from pipeline.train.methods.simsiam import SimSiam, negative_cosine
from tests.support.trainings import (
    config_of,
    in_double,
    make_method,
    open_stream,
    pairs,
    shards_of,
)


def reference_negative_cosine(predicted: Tensor, target: Tensor) -> float:
    total = 0.0
    for p, z in zip(predicted.tolist(), target.tolist(), strict=True):
        dot = sum(a * b for a, b in zip(p, z, strict=True))
        norms = math.hypot(*p) * math.hypot(*z)
        total -= dot / norms
    return total / len(predicted)


def test_negative_cosine_equals_loops_and_stops_the_targets_gradient() -> None:
    predicted, target = (part.requires_grad_() for part in pairs())
    loss = negative_cosine(predicted, target)
    assert loss.item() == pytest.approx(reference_negative_cosine(predicted, target), rel=1e-9)
    loss.backward()
    assert predicted.grad is not None
    assert target.grad is None


def test_simsiam_is_symmetric_in_the_two_views(training_shards: TrainingShards) -> None:
    config = config_of("simsiam both")
    batch = in_double(open_stream(shards_of(config, training_shards), config).batch(0))
    method = make_method(config).double().eval()  # without batch statistics
    swapped = Batch(batch.synthetic[::-1], batch.real[::-1], None)
    torch.testing.assert_close(method(batch).loss, method(swapped).loss)


def test_simsiam_predictor_keeps_its_learning_rate() -> None:
    method = make_method(config_of("simsiam both"))
    assert isinstance(method, SimSiam)
    scheduled, fixed = method.parameter_groups()
    assert {id(p) for p in fixed["params"]} == {id(p) for p in method.predictor.parameters()}
    assert fixed["fixed_rate"]
    assert "fixed_rate" not in scheduled
    grouped = [*scheduled["params"], *fixed["params"]]
    assert {id(p) for p in grouped} == {id(p) for p in method.parameters()}


def test_negative_cosine_equals_lightlys_loss() -> None:
    lightly = pytest.importorskip("lightly.loss", reason="pip install lightly")
    for seed in range(3):
        first, second = pairs(rows=32, width=48, seed=seed)
        theirs = lightly.NegativeCosineSimilarity()(first, second)
        torch.testing.assert_close(negative_cosine(first, second), theirs, rtol=1e-5, atol=1e-5)

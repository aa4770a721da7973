"""What the paper's linear probe trains, at what rates, and how it says so."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
import torch

from pipeline.eval.probes.linear_head import LARGE_BATCH, LinearHead, ProbeSettings, learning_rate
from tests.support.labelled_images import as_they_are
from tests.support.reference_head import ReferenceHead


@pytest.mark.parametrize("optimizer", ["sgd", "lars"])
def test_linear_head_updates_equal_the_reference(optimizer: Literal["sgd", "lars"]) -> None:
    head = LinearHead(6, 3, optimizer, seed=0)
    reference = ReferenceHead(head.layer, optimizer)
    generator = torch.Generator().manual_seed(0)
    for rate in (1.0, 1.0, 0.3, 0.02):
        features = torch.randn(5, 6, generator=generator)
        classes = torch.randint(0, 3, (5,), generator=generator)
        head.update(features, classes, rate)
        reference.update(features.numpy(), classes.tolist(), rate)
        for found, expected in zip(head.layer.parameters(), reference.parameters, strict=True):
            # float32 against float64
            np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("optimizer", ["sgd", "lars"])
def test_linear_head_is_the_same_on_any_number_of_threads(
    optimizer: Literal["sgd", "lars"],
) -> None:
    """Here as on a worker: products of this size are shared among threads."""
    layers = []
    before = torch.get_num_threads()
    try:
        for num_threads in (1, 2):
            torch.set_num_threads(num_threads)
            head = LinearHead(512, 10, optimizer, seed=0)
            generator = torch.Generator().manual_seed(0)
            for _ in range(4):
                features = torch.randn(256, 512, generator=generator).abs()
                head.update(features, torch.randint(0, 10, (256,), generator=generator), 30.0)
            assert torch.get_num_threads() == num_threads
            layers.append((head.layer, head.classify(features)))
    finally:
        torch.set_num_threads(before)
    (one, classes), (two, same) = layers
    assert torch.equal(one.weight, two.weight)
    assert torch.equal(one.bias, two.bias)
    assert torch.equal(classes, same)


def test_linear_head_starts_small_without_bias_and_as_the_seed_says() -> None:
    first, second, other = (LinearHead(400, 50, "sgd", seed=seed).layer for seed in (0, 0, 1))
    torch.testing.assert_close(first.weight, second.weight, rtol=0, atol=0)
    assert not torch.equal(first.weight, other.weight)
    # 20,000 draws: the standard error of a deviation is 0.5 %
    assert float(first.weight.detach().std()) == pytest.approx(0.01, rel=0.03)
    assert not first.bias.any()


def test_learning_rate_falls_along_a_cosine_from_the_base_rate() -> None:
    rates = [learning_rate(ProbeSettings(), epoch) for epoch in range(90)]
    assert rates[0] == 30
    assert rates[45] == pytest.approx(15)
    assert rates[-1] == pytest.approx(15 * (1 + math.cos(math.pi * 89 / 90)))
    assert learning_rate(LARGE_BATCH, 0) == pytest.approx(1.6)


def test_protocol_says_what_was_done() -> None:
    paper = ProbeSettings().protocol
    for fact in ("SGD", "float32", "90 epochs", "batch 256", "30 x 256/256", "flip p 0.5"):
        assert fact in paper
    assert "area 0.08-1, aspect ratio 0.75-1.33" in paper
    assert "jitter" not in paper
    assert "after the last epoch" in paper
    changed = replace(LARGE_BATCH, precision=torch.bfloat16, augment=as_they_are()).protocol
    for fact in ("LARS (trust 0.001)", "bfloat16", "0.1 x 4096/256", "train images: as they are"):
        assert fact in changed

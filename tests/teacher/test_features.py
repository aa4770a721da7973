"""Pooled features: the spatial mean of every block, end to end."""

from __future__ import annotations

import torch

from pipeline.teacher.features import captured, pool_features
from tests.support.tiny_shards import BLOCKS, random_generator


def test_pool_features_blocks_give_their_means_in_order() -> None:
    blocks = {"b4": torch.randn(2, 3, 4, 4), "b8": torch.randn(2, 2, 8, 8)}
    pooled = pool_features(blocks)
    assert pooled.shape == (2, 5)
    for n in range(2):
        for c in range(3):
            value = sum(blocks["b4"][n, c].flatten().tolist()) / 16
            assert abs(pooled[n, c].item() - value) < 1e-6
        for c in range(2):
            value = sum(blocks["b8"][n, c].flatten().tolist()) / 64
            assert abs(pooled[n, 3 + c].item() - value) < 1e-6


def test_pool_features_half_precision_blocks_are_averaged_in_float32() -> None:
    block = torch.full((1, 1, 64, 64), 60_000.0, dtype=torch.float16)  # the sum overflows float16
    pooled = pool_features({"b64": block})
    assert pooled.dtype == torch.float32
    assert abs(pooled.item() / block[0, 0, 0, 0].item() - 1) < 1e-5


def test_pool_features_of_a_generator_have_the_architectures_width() -> None:
    generator = random_generator()
    with captured(generator, generator.blocks) as features:
        generator(torch.randn(3, generator.arch.z_dim), "const")
    pooled = pool_features(features)
    assert pooled.shape == (3, sum(channels for _, channels in BLOCKS))

"""Heads of the dense tasks against plain references, one pixel or level after the other."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.eval.dense.pyramid_pooling import (
    POOLED_SIDES,
    PyramidPooling,
    PyramidPoolingHead,
    initialise,
)
from pipeline.eval.dense.upernet import UperNetHead

CHANNELS = (4, 6, 8, 10)


def draw(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def draw_maps() -> list[Tensor]:
    return [draw(2, width, 16 // 2**k, 24 // 2**k) for k, width in enumerate(CHANNELS)]


def double(head: nn.Module) -> nn.Module:
    initialise(head)
    return head.double().eval()


def pool_region(features: Tensor, row: int, column: int, side: int) -> Tensor:
    """Mean of one of side x side regions, which overlap where they do not divide the map."""
    height, width = features.shape[2:]
    rows = slice(row * height // side, -(-(row + 1) * height // side))
    columns = slice(column * width // side, -(-(column + 1) * width // side))
    return features[:, :, rows, columns].mean((2, 3))


def apply_block(block: nn.Module, features: Tensor) -> Tensor:
    """Convolution, normalisation, ReLU, by torch's functions."""
    conv, norm = block[0], block[1]  # type: ignore[index]
    found = F.conv2d(features, conv.weight, padding=conv.kernel_size[0] // 2)
    mean, var = norm.running_mean[:, None, None], norm.running_var[:, None, None]
    scaled = (found - mean) / (var + norm.eps).sqrt()
    return (scaled * norm.weight[:, None, None] + norm.bias[:, None, None]).relu()


def reference_pooling(module: PyramidPooling, features: Tensor) -> Tensor:
    parts = [features]
    for side, branch in zip(POOLED_SIDES, module.branches, strict=True):
        pooled = features.new_zeros(*features.shape[:2], side, side)
        for row in range(side):
            for column in range(side):
                pooled[:, :, row, column] = pool_region(features, row, column, side)
        small = apply_block(branch[1], pooled)  # type: ignore[index]
        parts.append(F.interpolate(small, features.shape[2:], mode="bilinear"))
    return apply_block(module.merge, torch.cat(parts, 1))


def test_pyramid_pooling_equals_the_reference() -> None:
    module = PyramidPooling(5, 3)
    double(module)
    features = draw(2, 5, 8, 12).double()
    torch.testing.assert_close(module(features), reference_pooling(module, features))


def test_upernet_equals_the_reference() -> None:
    head = UperNetHead(CHANNELS, 5, 7)
    double(head)
    maps = [part.double() for part in draw_maps()]
    level = reference_pooling(head.pooling, maps[3])
    levels = {3: level}
    for index in (2, 1, 0):
        lateral = apply_block(head.laterals[index], maps[index])
        level = lateral + F.interpolate(level, lateral.shape[2:], mode="bilinear")
        levels[index] = apply_block(head.outputs[index], level)
    size = levels[0].shape[2:]
    merged = torch.cat([F.interpolate(levels[k], size, mode="bilinear") for k in range(4)], 1)
    expected = head.classify(apply_block(head.merge, merged))
    torch.testing.assert_close(head(maps), expected)
    assert expected.shape == (2, 7, 16, 24)


@pytest.mark.parametrize("head", [PyramidPoolingHead, UperNetHead])
def test_heads_train_all_of_their_weights(head: type[nn.Module]) -> None:
    network = head(CHANNELS, 6, 3)
    initialise(network)
    network(draw_maps()).square().mean().backward()
    assert all(value.grad is not None and value.grad.any() for value in network.parameters())

"""Random input, and arrays that are equal but for rounding."""

from __future__ import annotations

from typing import Any

import torch

TOLERANCE = 1e-4


def assert_near(found: Any, expected: Any) -> None:
    found, expected = torch.as_tensor(found), torch.as_tensor(expected)
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= TOLERANCE * expected.abs().max()


def draw(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))

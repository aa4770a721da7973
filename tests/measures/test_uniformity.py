"""Alignment and uniformity against a plain loop over pairs, and where they are known."""

from __future__ import annotations

import math
from itertools import combinations

import pytest
import torch
from torch import Tensor

from pipeline.measures.uniformity import alignment, uniformity


def draw(num_rows: int, num_dims: int = 6, seed: int = 0) -> Tensor:
    return torch.randn(num_rows, num_dims, generator=torch.Generator().manual_seed(seed))


def unit(row: Tensor) -> list[float]:
    values = row.double()
    return (values / values.norm()).tolist()  # type: ignore[no-any-return]


def squared_distance(a: Tensor, b: Tensor) -> float:
    return sum((p - q) ** 2 for p, q in zip(unit(a), unit(b), strict=True))


def test_alignment_is_the_mean_squared_distance_of_unit_vectors() -> None:
    first, second = draw(7) * 3, draw(7, seed=1)
    pairs = [squared_distance(a, b) for a, b in zip(first, second, strict=True)]
    assert alignment(first, second) == pytest.approx(sum(pairs) / 7, rel=1e-9)


def test_alignment_of_equal_directions_is_0_and_of_opposite_ones_4() -> None:
    vectors = draw(5)
    assert alignment(vectors, 2 * vectors) == pytest.approx(0, abs=1e-12)
    assert alignment(vectors, -vectors) == pytest.approx(4)


@pytest.mark.parametrize("num_rows", [2, 9])
def test_uniformity_is_the_log_mean_kernel_over_all_pairs(num_rows: int) -> None:
    vectors = draw(num_rows) * 5
    kernels = [math.exp(-2 * squared_distance(a, b)) for a, b in combinations(vectors, 2)]
    assert uniformity(vectors) == pytest.approx(math.log(sum(kernels) / len(kernels)), rel=1e-9)


def test_uniformity_in_blocks_is_that_of_the_whole() -> None:
    """More rows than a block has; every row is there three times over."""
    vectors = draw(400).repeat(3, 1)
    unit_rows = torch.nn.functional.normalize(vectors.double(), dim=1)
    kernels = (-2 * torch.pdist(unit_rows).square()).exp()
    assert uniformity(vectors) == pytest.approx(math.log(float(kernels.mean())), rel=1e-9)


def test_uniformity_falls_from_0_as_vectors_spread() -> None:
    collapsed = torch.ones(50, 64)
    assert uniformity(collapsed) == pytest.approx(0, abs=1e-9)
    assert -4.1 < uniformity(draw(500, 512)) < -3.9  # E ‖a - b‖² = 2
    assert uniformity(collapsed + 0.1 * draw(50, 64)) > uniformity(collapsed + draw(50, 64))


def test_uniformity_of_a_single_row_is_refused() -> None:
    with pytest.raises(ValueError, match="no pairs"):
        uniformity(draw(1))

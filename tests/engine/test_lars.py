"""Layer-wise adaptive rates against Algorithm 1 of You et al. 2017, written out, and
with weight decay against the formula of VICReg's authors.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.engine.lars import Lars, adapt_gradients

TRUST = 0.001
MOMENTUM = 0.9
RATE = 1.6
NUM_STEPS = 5


def draw_gradients(shape: tuple[int, ...], seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator) for _ in range(NUM_STEPS)]


def norm(values: list[float]) -> float:
    return math.sqrt(sum(value * value for value in values))


def reference(weights: list[float], gradients: list[list[float]]) -> list[float]:
    """Algorithm 1 with weight decay 0, one number at a time; λ = 1 where a norm is zero."""
    velocity = [0.0] * len(weights)
    for gradient in gradients:
        is_defined = norm(weights) > 0 and norm(gradient) > 0
        local = TRUST * norm(weights) / norm(gradient) if is_defined else 1.0
        velocity = [
            MOMENTUM * v + RATE * local * g for v, g in zip(velocity, gradient, strict=True)
        ]
        weights = [w - v for w, v in zip(weights, velocity, strict=True)]
    return weights


def descend(start: Tensor, gradients: list[Tensor]) -> Tensor:
    """What torch's SGD makes of adapted gradients."""
    parameter = torch.nn.Parameter(start.clone())
    optimizer = torch.optim.SGD([parameter], lr=RATE, momentum=MOMENTUM)
    for gradient in gradients:
        parameter.grad = gradient.clone()
        adapt_gradients([parameter])
        optimizer.step()
    return parameter.detach()


def assert_equal_to_the_reference(start: Tensor, gradients: list[Tensor]) -> None:
    expected = reference(start.flatten().tolist(), [g.flatten().tolist() for g in gradients])
    # float32 against float64
    np.testing.assert_allclose(
        descend(start, gradients).flatten().numpy(), expected, rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("shape", [(3, 4), (5,)])
def test_adapt_gradients_with_sgd_equals_algorithm_1(shape: tuple[int, ...]) -> None:
    start = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    assert_equal_to_the_reference(start, draw_gradients(shape, 1))


def test_adapt_gradients_parameter_that_starts_at_zero_moves_all_the_same() -> None:
    gradients = draw_gradients((4,), 2)
    assert descend(torch.zeros(4), gradients).abs().min() > 0
    assert_equal_to_the_reference(torch.zeros(4), gradients)


def test_adapt_gradients_gradient_of_zeros_stays_zero() -> None:
    gradients = [torch.zeros(3), *draw_gradients((3,), 3)[1:]]
    assert_equal_to_the_reference(torch.ones(3), gradients)


def test_adapt_gradients_update_does_not_depend_on_the_size_of_the_gradient() -> None:
    start, gradients = torch.ones(6), draw_gradients((6,), 4)
    larger = [1000 * gradient for gradient in gradients]
    torch.testing.assert_close(
        descend(start, larger), descend(start, gradients), rtol=1e-5, atol=1e-6
    )


def test_adapt_gradients_every_parameter_has_a_rate_of_its_own() -> None:
    gradients = [torch.full((2,), 3.0), torch.full((2,), 0.01)]
    parameters = [torch.nn.Parameter(torch.full((2,), value)) for value in (1.0, 50.0)]
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient.clone()
    adapt_gradients(parameters)
    for parameter in parameters:
        assert parameter.grad is not None
        found = parameter.grad.norm() / parameter.detach().norm()
        assert float(found) == pytest.approx(TRUST, rel=1e-5)


def test_adapt_gradients_parameter_without_a_gradient_is_refused() -> None:
    with pytest.raises(ValueError, match="needs a gradient"):
        adapt_gradients([torch.nn.Parameter(torch.ones(2))])


@pytest.mark.parametrize("is_adapted", [True, False])
def test_lars_with_weight_decay_equals_the_formula(is_adapted: bool) -> None:
    """One number at a time: g + β w, times η ‖w‖ / ‖g + β w‖ where it is adapted; momentum."""
    decay, start, gradients = 0.1, torch.linspace(-1, 1, 12), draw_gradients((12,), 5)
    weights, velocity = start.tolist(), [0.0] * 12
    for gradient in gradients:
        slope = [g + decay * w for g, w in zip(gradient.tolist(), weights, strict=True)]
        local = TRUST * norm(weights) / norm(slope) if is_adapted else 1.0
        velocity = [MOMENTUM * v + local * d for v, d in zip(velocity, slope, strict=True)]
        weights = [w - RATE * v for w, v in zip(weights, velocity, strict=True)]
    parameter = torch.nn.Parameter(start.clone())
    group = {"params": [parameter], "weight_decay": 0.0, "adapted_decay": decay}
    if not is_adapted:
        group = {"params": [parameter], "weight_decay": decay}
    optimizer = Lars([group], lr=RATE, momentum=MOMENTUM)
    for gradient in gradients:
        parameter.grad = gradient.clone()
        optimizer.step()
    np.testing.assert_allclose(parameter.detach().numpy(), weights, rtol=1e-5, atol=1e-5)

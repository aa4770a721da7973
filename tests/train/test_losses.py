"""Every equation against float64 loops written from the paper, in value and gradient."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.train.losses import (
    LossWeights,
    covariance_loss,
    effective_rank,
    embedding_std,
    invariance_loss,
    regularised_alignment,
    variance_loss,
)
from pipeline.train.method import Batch
from pipeline.train.methods.squeeze_and_span import SqueezeAndSpan
from tests.support.tiny_shards import TRAIN_CONFIG
from tests.support.trainings import make_method

WEIGHTS = LossWeights(invariance=25.0, variance=20.0, covariance=1.5)


def reference_invariance(first: Tensor, second: Tensor) -> Tensor:
    """Eq. 6."""
    num_samples, num_dims = first.shape
    total = first.new_zeros([])
    for n in range(num_samples):
        for m in range(num_dims):
            total = total + (first[n, m] - second[n, m]) ** 2
    return total / (num_samples * num_dims)


def reference_covariance_entry(z: Tensor, i: int, j: int) -> Tensor:
    """Entry of C(Z) = 1 / (N - 1) Σ_n (z_n - mean)(z_n - mean)ᵀ."""
    num_samples = len(z)
    mean_i = z.new_zeros([])
    mean_j = z.new_zeros([])
    for n in range(num_samples):
        mean_i = mean_i + z[n, i] / num_samples
        mean_j = mean_j + z[n, j] / num_samples
    total = z.new_zeros([])
    for n in range(num_samples):
        total = total + (z[n, i] - mean_i) * (z[n, j] - mean_j)
    return total / (num_samples - 1)


def reference_variance(z: Tensor) -> Tensor:
    """Eq. 9."""
    num_dims = z.shape[1]
    total = z.new_zeros([])
    for j in range(num_dims):
        hinge = 1 - torch.sqrt(reference_covariance_entry(z, j, j) + 1e-4)
        if hinge > 0:
            total = total + hinge
    return total / num_dims


def reference_covariance(z: Tensor) -> Tensor:
    """Eq. 10."""
    num_dims = z.shape[1]
    total = z.new_zeros([])
    for i in range(num_dims):
        for j in range(num_dims):
            if i != j:
                total = total + reference_covariance_entry(z, i, j) ** 2
    return total / num_dims


def reference_objective(first: Tensor, second: Tensor, weights: LossWeights) -> Tensor:
    """Eq. 11 with Z_s, Z_g; Eq. 12 with the two views."""
    return (
        weights.invariance * reference_invariance(first, second)
        + weights.variance * (reference_variance(first) + reference_variance(second))
        + weights.covariance * (reference_covariance(first) + reference_covariance(second))
    )


def draw_embedding(seed: int, num_samples: int = 6, num_dims: int = 4) -> Tensor:
    """Float64 embedding with dimensions on both sides of the hinge, correlated and off centre."""
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(num_samples, num_dims, generator=generator, dtype=torch.float64)
    mixing = torch.randn(num_dims, num_dims, generator=generator, dtype=torch.float64) * 0.3
    scales = torch.logspace(-1, 0.5, num_dims, dtype=torch.float64)
    return (z + z @ mixing) * scales + 0.7


def value_and_gradients(
    function: Callable[..., Tensor], *inputs: Tensor
) -> tuple[Tensor, tuple[Tensor, ...]]:
    leaves = [tensor.clone().requires_grad_() for tensor in inputs]
    value = function(*leaves)
    return value.detach(), torch.autograd.grad(value, leaves)


def assert_equation(
    function: Callable[..., Tensor], reference: Callable[..., Tensor], *inputs: Tensor
) -> None:
    expected, expected_gradients = value_and_gradients(reference, *inputs)
    value, gradients = value_and_gradients(function, *inputs)
    # float64 on both sides: only the order of a few dozen sums differs
    torch.testing.assert_close(value, expected, rtol=1e-11, atol=1e-13)
    for gradient, wanted in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(gradient, wanted, rtol=1e-10, atol=1e-13)
    single, _ = value_and_gradients(function, *(tensor.float() for tensor in inputs))
    # float32, as trained: rounding of 6e-8 relative to squared variances of up to 400, which the
    # covariance term adds up before it takes the diagonal away again
    torch.testing.assert_close(single.double(), expected, rtol=1e-5, atol=3e-5)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("shape", [(6, 4), (3, 5), (2, 3)])
def test_invariance_loss_random_pairs_equals_eq_6(seed: int, shape: tuple[int, int]) -> None:
    first, second = draw_embedding(seed, *shape), draw_embedding(seed + 10, *shape)
    assert_equation(invariance_loss, reference_invariance, first, second)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("shape", [(6, 4), (3, 5), (2, 3)])
def test_variance_loss_random_embedding_equals_eq_9(seed: int, shape: tuple[int, int]) -> None:
    assert_equation(variance_loss, reference_variance, draw_embedding(seed, *shape))


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("shape", [(6, 4), (4, 4), (3, 5), (2, 3)])
def test_covariance_loss_random_embedding_equals_eq_10(seed: int, shape: tuple[int, int]) -> None:
    assert_equation(covariance_loss, reference_covariance, draw_embedding(seed, *shape))


def plain_covariance(z: Tensor) -> Tensor:
    """Eq. 10 with the whole matrix of covariances, as VICReg's authors write it."""
    covariance = torch.cov(z.T)
    return (covariance - torch.diag(covariance.diagonal())).square().sum() / z.shape[1]


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(256, 2048), (64, 80), (80, 64)])
@pytest.mark.parametrize("spread", [1.0, 1e-3, 30.0])
def test_covariance_loss_of_few_and_many_samples_equals_the_whole_matrix(
    shape: tuple[int, int], spread: float
) -> None:
    mixing = draw_embedding(3, shape[1], shape[1])
    z = (draw_embedding(2, *shape) @ mixing) * (spread / shape[1] ** 0.5) + 5
    value, (gradient,) = value_and_gradients(covariance_loss, z)
    expected, (wanted,) = value_and_gradients(plain_covariance, z)
    # float64 on both sides, sums of up to 4 million squares in another order
    torch.testing.assert_close(value, expected, rtol=1e-9, atol=0)
    largest = wanted.abs().max().item()
    torch.testing.assert_close(gradient, wanted, rtol=1e-6, atol=1e-9 * largest)


def test_covariance_loss_of_a_collapsed_embedding_is_that_of_its_line() -> None:
    line = torch.outer(torch.linspace(-1, 1, 8).double(), torch.ones(40).double())
    torch.testing.assert_close(covariance_loss(line), plain_covariance(line))


@pytest.mark.parametrize("weights", [WEIGHTS, LossWeights(10.0, 10.0, 1.0)])
def test_regularised_alignment_random_pairs_equals_eq_11_and_12(weights: LossWeights) -> None:
    assert_equation(
        lambda first, second: regularised_alignment(first, second, weights).total,
        lambda first, second: reference_objective(first, second, weights),
        draw_embedding(0),
        draw_embedding(1),
    )


def test_regularised_alignment_terms_are_the_unweighted_sums_of_both_sides() -> None:
    first, second = draw_embedding(0), draw_embedding(1)
    terms = regularised_alignment(first, second, WEIGHTS)
    expected = [
        reference_invariance(first, second),
        reference_variance(first) + reference_variance(second),
        reference_covariance(first) + reference_covariance(second),
    ]
    torch.testing.assert_close([terms.invariance, terms.variance, terms.covariance], expected)


@pytest.mark.parametrize("share", [0.5, 0.25])
def test_squeeze_and_span_loss_mixes_eq_11_and_12_by_the_synthetic_share(share: float) -> None:
    config = TRAIN_CONFIG.model_copy(update={"synthetic_share": share})
    torch.manual_seed(0)
    method = make_method(config, [5, 3]).double()
    assert isinstance(method, SqueezeAndSpan)
    generator = torch.Generator().manual_seed(1)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    pooled = draw(5, 8)
    batch = Batch((draw(5, 3, 16, 16),), (draw(4, 3, 16, 16), draw(4, 3, 16, 16)), pooled)
    output = method(batch)
    views = [*batch.synthetic, *batch.real]
    synthetic, first, second = (method.projector(method.backbone(view)) for view in views)
    squeezed = method.squeeze(pooled)
    weights = LossWeights(25.0, 25.0, 1.0)
    expected = share * reference_objective(synthetic, squeezed, weights)
    expected = expected + (1 - share) * reference_objective(first, second, weights)
    # two forward passes of the same float64 networks: reductions may be split differently
    torch.testing.assert_close(output.loss, expected, rtol=1e-9, atol=1e-9)


def test_losses_collapsed_embedding_have_the_limit_values_and_finite_gradients() -> None:
    z = torch.full((7, 5), 0.3, requires_grad=True)
    variance, covariance = variance_loss(z), covariance_loss(z)
    assert variance.item() == pytest.approx(1 - math.sqrt(1e-4), rel=1e-6)
    assert covariance.item() == pytest.approx(0, abs=1e-12)
    (variance + covariance + invariance_loss(z, z.detach())).backward()
    assert z.grad is not None
    assert z.grad.isfinite().all()


def test_variance_loss_wide_embedding_is_zero_with_zero_gradient() -> None:
    z = (draw_embedding(0) * 100).requires_grad_()
    loss = variance_loss(z)
    loss.backward()
    assert loss.item() == 0
    assert z.grad is not None
    assert z.grad.abs().max() == 0


def test_covariance_loss_uncorrelated_dimensions_is_zero() -> None:
    z = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    assert covariance_loss(z).item() == 0


def reference_effective_rank(embedding: Tensor) -> float:
    values = np.linalg.svd((embedding - embedding.mean(0)).numpy(), compute_uv=False)
    entropy = 0.0
    for value in values / values.sum():
        if value > 0:
            entropy -= value * math.log(value)
    return math.exp(entropy)


@pytest.mark.parametrize("shape", [(20, 6), (6, 20), (8, 8), (2, 5)])
def test_effective_rank_random_embedding_equals_roy_and_vetterli(shape: tuple[int, int]) -> None:
    z = draw_embedding(0, *shape)
    # the Gram matrix squares the condition: a zero singular value comes out as about 1e-8
    assert effective_rank(z).item() == pytest.approx(reference_effective_rank(z), rel=1e-5)


def test_effective_rank_equal_samples_is_zero() -> None:
    assert effective_rank(torch.full((9, 4), 0.1)).item() == 0
    assert effective_rank(torch.tensor([[0.1, -3.0, 7.7]]).repeat(5, 1)).item() == 0


def test_effective_rank_samples_on_a_line_is_one() -> None:
    line = torch.linspace(-1, 1, 10)[:, None] * torch.tensor([[1.0, 2.0, -0.5]]) + 3
    assert effective_rank(line).item() == pytest.approx(1, abs=1e-4)


def test_effective_rank_isotropic_embedding_is_the_number_of_dimensions() -> None:
    z = torch.cat([torch.eye(5), -torch.eye(5)])
    assert effective_rank(z).item() == pytest.approx(5, rel=1e-5)


def test_embedding_std_random_embedding_equals_the_mean_of_loops() -> None:
    z = draw_embedding(0)
    expected = sum(math.sqrt(reference_covariance_entry(z, j, j).item()) for j in range(z.shape[1]))
    assert embedding_std(z).item() == pytest.approx(expected / z.shape[1], rel=1e-10)


def test_embedding_std_collapsed_embedding_is_zero() -> None:
    assert embedding_std(torch.full((4, 3), 0.25)).item() == 0


def test_monitors_of_an_embedding_with_gradient_carry_none() -> None:
    z = draw_embedding(0).requires_grad_()
    assert not embedding_std(z).requires_grad
    assert not effective_rank(z).requires_grad


def test_metrics_of_a_step_are_finite_numbers_and_hold_the_loss() -> None:
    torch.manual_seed(0)
    method = make_method(TRAIN_CONFIG, [5, 3])
    synthetic, first, second = torch.randn(3, 4, 3, 16, 16)
    batch = Batch((synthetic,), (first, second), torch.randn(4, 8))
    output = method(batch)
    metrics = output.metrics()
    assert metrics["loss"] == output.loss.item()
    assert all(math.isfinite(value) for value in metrics.values())

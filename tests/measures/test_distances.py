"""Distances against closed forms and plain references."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import Tensor

from pipeline.measures import distances
from pipeline.measures.distances import (
    Kernel,
    Moments,
    cubic_kernel,
    frechet_distance,
    kernel_distance,
    rbf_kernel,
    squared_mmd,
)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_frechet_distance_of_axis_aligned_gaussians_is_the_closed_form() -> None:
    first = Moments(torch.zeros(3).double(), torch.tensor([1.0, 4.0, 9.0]).diag().double())
    second = Moments(torch.tensor([1.0, 0, 2]).double(), torch.tensor([4.0, 4, 0]).diag().double())
    # deviations 1, 2, 3 and 2, 2, 0: (1² + 0² + 2²) + (1² + 0² + 3²)
    assert frechet_distance(first, second) == pytest.approx(15, rel=1e-12)


@pytest.mark.parametrize("num_samples", [100, 12])  # 12 samples: rank 11 of 20
def test_frechet_distance_equals_the_matrix_square_root_form(num_samples: int) -> None:
    first, second = (
        Moments.from_features(normal(num_samples, 20, seed=seed) @ normal(20, 20, seed=2 + seed))
        for seed in (0, 1)
    )
    product = (first.covariance @ second.covariance).numpy()
    # a ridge of 1e-10 lets scipy take the root of a singular matrix: 1e-3 of the value
    root = scipy.linalg.sqrtm(product + 1e-10 * np.eye(20))
    expected = (
        (first.mean - second.mean).square().sum().item()
        + (first.covariance + second.covariance).trace().item()
        - 2 * np.trace(root.real)
    )
    assert frechet_distance(first, second) == pytest.approx(expected, rel=1e-3)
    assert frechet_distance(second, first) == pytest.approx(frechet_distance(first, second))


@pytest.mark.parametrize("num_samples", [200, 5])
def test_frechet_distance_of_a_set_from_itself_is_zero(num_samples: int) -> None:
    moments = Moments.from_features(normal(num_samples, 30).float())
    assert frechet_distance(moments, moments) == pytest.approx(0, abs=1e-9)


def test_moments_are_mean_and_unbiased_covariance_in_float64() -> None:
    features = (normal(50, 4) * 1e-3 + 1e3).float()  # float32 sums would lose the spread
    moments = Moments.from_features(features)
    assert moments.mean.dtype == moments.covariance.dtype == torch.float64
    expected = np.cov(features.double().numpy(), rowvar=False)
    np.testing.assert_allclose(moments.covariance.numpy(), expected, rtol=1e-9)


@pytest.mark.parametrize("features", [torch.zeros(1, 4), torch.full((3, 4), torch.nan)])
def test_distances_of_unusable_features_are_refused(features: Tensor) -> None:
    with pytest.raises(ValueError, match=r"two samples|finite"):
        Moments.from_features(features)
    with pytest.raises(ValueError, match=r"two samples|finite"):
        kernel_distance(features, torch.zeros(4, 4))


def test_kernel_distance_equals_a_plain_double_loop() -> None:
    x, y = normal(7, 3).numpy(), normal(5, 3, seed=1).numpy() + 0.5

    def kernel(a: np.ndarray, b: np.ndarray) -> float:
        return float((sum(a * b) / 3 + 1) ** 3)

    xx = [kernel(x[i], x[j]) for i in range(7) for j in range(7) if i != j]
    yy = [kernel(y[i], y[j]) for i in range(5) for j in range(5) if i != j]
    xy = [kernel(a, b) for a in x for b in y]
    expected = np.mean(xx) + np.mean(yy) - 2 * np.mean(xy)
    found = kernel_distance(torch.from_numpy(x), torch.from_numpy(y))
    assert found == pytest.approx(expected, rel=1e-12)


def test_kernel_distance_within_one_distribution_is_unbiased() -> None:
    found = [
        kernel_distance(normal(10, 4, seed=2 * i), normal(10, 4, seed=2 * i + 1))
        for i in range(600)
    ]
    error = np.std(found) / np.sqrt(len(found))
    assert abs(np.mean(found)) < 3.5 * error  # the biased estimate is off by more than 10 errors
    assert min(found) < 0


def cubic_value(a: np.ndarray, b: np.ndarray) -> float:
    return float((sum(a * b) / len(a) + 1) ** 3)


def rbf_value(a: np.ndarray, b: np.ndarray) -> float:
    return math.exp(-sum((a - b) ** 2) / (2 * 1.7**2))


KERNELS = [(cubic_kernel, cubic_value), (rbf_kernel(1.7), rbf_value)]


def reference_mmd(
    x: np.ndarray, y: np.ndarray, kernel: Callable[[np.ndarray, np.ndarray], float]
) -> float:
    """Gretton et al. 2012, Eq. 3, pair by pair."""
    value = 0.0
    for one in (x, y):
        pairs = [kernel(a, b) for i, a in enumerate(one) for j, b in enumerate(one) if i != j]
        value += sum(pairs) / (len(one) * (len(one) - 1))
    return value - 2 * sum(kernel(a, b) for a in x for b in y) / (len(x) * len(y))


@pytest.mark.parametrize(("kernel", "value"), KERNELS, ids=["cubic", "rbf"])
@pytest.mark.parametrize("tile", [3, 4, 100])  # of 11 and 7 samples: uneven, and all in one
def test_squared_mmd_equals_a_plain_double_loop_in_tiles_of_any_size(
    kernel: Kernel,
    value: Callable[[np.ndarray, np.ndarray], float],
    tile: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(distances, "TILE", tile)
    x, y = normal(11, 3), normal(7, 3, seed=1) + 0.4
    found = squared_mmd(x, y, kernel)
    assert found.value == pytest.approx(reference_mmd(x.numpy(), y.numpy(), value), rel=1e-12)
    assert squared_mmd(y, x, kernel).value == pytest.approx(found.value, rel=1e-12)


@pytest.mark.parametrize(("kernel", "value"), KERNELS, ids=["cubic", "rbf"])
def test_squared_mmd_standard_error_is_that_of_leaving_out_each_sample(
    kernel: Kernel, value: Callable[[np.ndarray, np.ndarray], float]
) -> None:
    x, y = normal(8, 3).numpy(), normal(6, 3, seed=1).numpy() * 1.5
    without_x = [reference_mmd(np.delete(x, i, 0), y, value) for i in range(8)]
    without_y = [reference_mmd(x, np.delete(y, i, 0), value) for i in range(6)]
    expected = math.sqrt(7 * np.var(without_x) + 5 * np.var(without_y))
    found = squared_mmd(torch.from_numpy(x), torch.from_numpy(y), kernel)
    assert found.standard_error == pytest.approx(expected, rel=1e-10)


def test_squared_mmd_of_float32_features_accumulates_in_float64() -> None:
    """Values of 1e6 around a difference of 1: float32 sums would be noise."""
    x, y = (normal(600, 4, seed=seed).float() + 100 for seed in (0, 1))
    expected = squared_mmd(x.double(), y.double(), cubic_kernel)
    assert squared_mmd(x, y, cubic_kernel) == expected


def test_squared_mmd_between_shifted_gaussians_is_the_closed_form() -> None:
    """For N(0, 1) and N(a, 1) in one dimension and an RBF kernel of bandwidth s, with q = 2 + s²:
    2 s / √q (1 - exp(-a² / 2q)).
    """
    shift, bandwidth = 1.5, 0.8
    found = squared_mmd(normal(3000, 1), normal(3000, 1, seed=1) + shift, rbf_kernel(bandwidth))
    spread = 2 + bandwidth**2
    expected = 2 * bandwidth / math.sqrt(spread) * (1 - math.exp(-(shift**2) / (2 * spread)))
    assert abs(found.value - expected) < 3.5 * found.standard_error
    assert found.standard_error < 0.05 * expected


def test_squared_mmd_of_two_samples_has_no_standard_error() -> None:
    found = squared_mmd(normal(2, 3), normal(5, 3, seed=1), cubic_kernel)
    assert math.isfinite(found.value)
    assert math.isnan(found.standard_error)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_squared_mmd_on_the_gpu_equals_the_cpu() -> None:
    x, y = normal(300, 8).float(), normal(200, 8, seed=1).float()
    for kernel, _ in KERNELS:
        expected, found = (
            squared_mmd(x.to(device), y.to(device), kernel) for device in ("cpu", "cuda")
        )
        assert found.value == pytest.approx(expected.value, rel=1e-9, abs=1e-12)
        assert found.standard_error == pytest.approx(expected.standard_error, rel=1e-9)

"""Distances against closed forms and plain references."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import Tensor

from pipeline.distances import Moments, frechet_distance, kernel_distance


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
        kernel_distance(features, torch.zeros(4, 4), max_samples=10)


def test_kernel_distance_equals_a_plain_double_loop() -> None:
    x, y = normal(7, 3).numpy(), normal(5, 3, seed=1).numpy() + 0.5

    def kernel(a: np.ndarray, b: np.ndarray) -> float:
        return float((sum(a * b) / 3 + 1) ** 3)

    xx = [kernel(x[i], x[j]) for i in range(7) for j in range(7) if i != j]
    yy = [kernel(y[i], y[j]) for i in range(5) for j in range(5) if i != j]
    xy = [kernel(a, b) for a in x for b in y]
    expected = np.mean(xx) + np.mean(yy) - 2 * np.mean(xy)
    found = kernel_distance(torch.from_numpy(x), torch.from_numpy(y), max_samples=10)
    assert found == pytest.approx(expected, rel=1e-12)


def test_kernel_distance_within_one_distribution_is_unbiased() -> None:
    found = [
        kernel_distance(normal(10, 4, seed=2 * i), normal(10, 4, seed=2 * i + 1), max_samples=10)
        for i in range(600)
    ]
    error = np.std(found) / np.sqrt(len(found))
    assert abs(np.mean(found)) < 3.5 * error  # the biased estimate is off by more than 10 errors
    assert min(found) < 0


def test_kernel_distance_takes_at_most_max_samples_of_each_set() -> None:
    x, y = normal(50, 4), normal(40, 4, seed=1)
    first = kernel_distance(x, y, max_samples=20)
    assert first == kernel_distance(x[:20], y[:20], max_samples=20)
    drawn, again = (
        kernel_distance(x, y, max_samples=20, generator=torch.Generator().manual_seed(3))
        for _ in range(2)
    )
    assert drawn == again
    assert drawn != first

"""The domain gap of planted distributions, and whether its interval holds the truth."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist, pdist

from pipeline.eval.domains.mmd import KernelName, measure_domain_gap, median_distance
from pipeline.results.ledger import Measurement

CPU = torch.device("cpu")


def draw(count: int, seed: int, shift: float = 0.0, num_dims: int = 12) -> np.ndarray:
    """Heavy-tailed clouds around two centres, as representations are."""
    generator = np.random.default_rng(seed)
    samples = generator.standard_normal((count, num_dims))
    samples *= np.exp(0.3 * generator.standard_normal((count, 1)))
    samples[:, 0] += 3 * generator.integers(0, 2, count) + shift
    return samples.astype(np.float32)


def measure(
    real: np.ndarray,
    synthetic: np.ndarray,
    kernel: KernelName = "cubic",
    *,
    seed: int = 0,
    max_samples: int = 10_000,
) -> Measurement:
    return measure_domain_gap(
        real, synthetic, kernel=kernel, seed=seed, max_samples=max_samples, device=CPU
    )


def bounds(gap: Measurement) -> tuple[float, float]:
    assert gap.low is not None
    assert gap.high is not None
    return gap.low, gap.high


def bandwidth(real: np.ndarray, synthetic: np.ndarray) -> float:
    return median_distance(torch.from_numpy(real), torch.from_numpy(synthetic), seed=0)[0]


@pytest.mark.parametrize("kernel", ["cubic", "rbf"])
def test_domain_gap_of_one_distribution_has_an_interval_around_zero(kernel: KernelName) -> None:
    gaps = [measure(draw(120, 2 * i), draw(150, 2 * i + 1), kernel) for i in range(60)]
    held = np.mean([low <= 0 <= high for low, high in map(bounds, gaps)])
    assert held >= 0.9  # 99 % expected: the jackknife is too wide here
    assert 0.2 < np.mean([gap.value < 0 for gap in gaps]) < 0.9


POINTS = draw(30, 5, num_dims=6)
REAL, SYNTHETIC = np.random.default_rng(6).dirichlet(np.ones(30), 2)


def draw_points(weights: np.ndarray, count: int, seed: int) -> np.ndarray:
    """`count` of the 30 points by `weights`: distributions whose squared MMD is known."""
    chosen: np.ndarray = POINTS[np.random.default_rng(seed).choice(30, count, p=weights)]
    return chosen


def true_squared_mmd(bandwidth: float | None) -> float:
    points = POINTS.astype(np.float64)
    if bandwidth is None:
        values = (points @ points.T / 6 + 1) ** 3
    else:
        values = np.exp(-cdist(points, points, "sqeuclidean") / (2 * bandwidth**2))
    return float((REAL - SYNTHETIC) @ values @ (REAL - SYNTHETIC))


@pytest.mark.parametrize("kernel", ["cubic", "rbf"])
def test_domain_gap_interval_holds_the_truth_of_planted_distributions(kernel: KernelName) -> None:
    pairs = [
        (draw_points(REAL, 120, 2 * i), draw_points(SYNTHETIC, 150, 2 * i + 1)) for i in range(200)
    ]
    gaps = [measure(*pair, kernel) for pair in pairs]
    truths = np.array(
        [true_squared_mmd(bandwidth(*pair) if kernel == "rbf" else None) for pair in pairs]
    )
    values = np.array([gap.value for gap in gaps])
    lows, highs = np.array([bounds(gap) for gap in gaps]).T
    errors = (highs - lows) / (2 * 1.96)
    assert abs(np.mean(values - truths)) < 3.5 * np.std(values) / np.sqrt(200)
    assert np.mean(errors) == pytest.approx(np.std(values), rel=0.2)
    held = np.mean((lows <= truths) & (truths <= highs))
    # 2000 cases of 120 and 150 heavy-tailed samples held 92 %; less 3.5 errors of 200 cases
    assert held >= 0.85
    assert min(truths) > 2 * np.mean(errors)  # a gap that is really there


@pytest.mark.parametrize("kernel", ["cubic", "rbf"])
def test_domain_gap_grows_with_the_shift_and_is_told_from_none(kernel: KernelName) -> None:
    real = draw(600, 0)
    gaps = [measure(real, draw(500, 1, shift), kernel) for shift in (0.0, 0.7, 1.4, 2.8)]
    assert (np.diff([gap.value for gap in gaps]) > 0).all()
    assert bounds(gaps[0])[0] < 0 < bounds(gaps[0])[1]
    assert all(bounds(gap)[0] > 0 for gap in gaps[2:])


def test_domain_gap_rbf_does_not_depend_on_scale_but_cubic_does() -> None:
    real, synthetic = draw(200, 0), draw(200, 1, 1.0)
    for kernel, factor in (("rbf", 1.0), ("cubic", 10.0)):
        small, large = (measure(real * scale, synthetic * scale, kernel).value for scale in (1, 10))
        if kernel == "rbf":
            assert large == pytest.approx(small, rel=1e-5)
        else:
            assert large > factor * small


def test_domain_gap_rbf_bandwidth_is_the_median_distance_of_both_sets_pooled() -> None:
    real, synthetic = draw(40, 0), draw(40, 1, 5.0)
    expected = np.median(pdist(np.concatenate([real, synthetic]).astype(np.float64)))
    gap = measure(real, synthetic, "rbf")
    assert bandwidth(real, synthetic) == pytest.approx(expected, rel=1e-12)
    assert "s the median" in gap.protocol
    other = measure(real, synthetic * 2, "rbf")
    assert other.protocol == gap.protocol  # runs can be compared
    assert "40 real and 40 synthetic" in gap.protocol
    assert "median" not in measure(real, synthetic, "cubic").protocol


def test_domain_gap_rbf_bandwidth_does_not_depend_on_which_set_is_larger() -> None:
    """As many of each set: a thousand more of one would move a plain pooled median."""
    real, synthetic = draw(50, 0), draw(2000, 1, 20.0)
    few, many = (bandwidth(real, part) for part in (synthetic[:50], synthetic))
    assert few == pytest.approx(many, rel=0.1)


def test_domain_gap_of_constant_representations_is_zero_and_finite() -> None:
    constant = np.full((20, 4), 0.3, np.float32)
    for kernel in ("cubic", "rbf"):
        gap = measure(constant, constant, kernel)
        assert (gap.low, gap.value, gap.high) == pytest.approx((0, 0, 0), abs=1e-9)


def test_domain_gap_draws_max_samples_by_seed_and_says_so() -> None:
    real, synthetic = draw(90, 0), draw(80, 1, 0.5)
    first, again, other = (
        measure(real, synthetic, max_samples=50, seed=seed) for seed in (3, 3, 4)
    )
    assert first == again
    assert first.value != other.value
    assert "50 of 90 real and 50 of 80 synthetic images, drawn with seed 3" in first.protocol
    assert measure(real, synthetic, seed=3).value == measure(real, synthetic).value


@pytest.mark.parametrize(
    ("real", "reason"), [(draw(2, 0), "three samples"), (draw(9, 0) * np.nan, "finite")]
)
def test_domain_gap_of_unusable_representations_is_refused(real: np.ndarray, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        measure(real, draw(9, 1))

"""Precision, recall, density and coverage against plain loops and on planted distributions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from pipeline.eval.domains import neighbours
from pipeline.eval.domains.neighbours import (
    MEASURES,
    count_neighbourhoods,
    expected_coverage,
    measure_neighbourhoods,
)
from pipeline.results.ledger import Measurement

Found = dict[str, Measurement]

CPU = torch.device("cpu")


def draw(count: int, seed: int, *, scale: float = 1.0, num_centres: int = 5) -> np.ndarray:
    """Clouds around up to five centres in 12 dimensions."""
    generator = np.random.default_rng(seed)
    centres = np.random.default_rng(99).standard_normal((5, 12)) * 2
    samples = centres[generator.integers(0, num_centres, count)]
    samples = samples + scale * generator.standard_normal((count, 12))
    return samples.astype(np.float32)


def measure(
    real: np.ndarray, synthetic: np.ndarray, *, seed: int = 0, max_samples: int = 10_000
) -> Found:
    numbers = measure_neighbourhoods(
        real, synthetic, seed=seed, max_samples=max_samples, device=CPU
    )
    return {number.metric: number for number in numbers}


def low(number: Measurement) -> float:
    assert number.low is not None
    return number.low


def high(number: Measurement) -> float:
    assert number.high is not None
    return number.high


def distance(a: np.ndarray, b: np.ndarray) -> float:
    """Euclidean, on the unit sphere: falls as the cosine rises."""
    a, b = (v.astype(np.float64) / math.sqrt(sum(v.astype(np.float64) ** 2)) for v in (a, b))
    return math.sqrt(sum((a - b) ** 2))


def radii(images: np.ndarray, k: int) -> list[float]:
    return [
        sorted(distance(a, b) for j, b in enumerate(images) if j != i)[k - 1]
        for i, a in enumerate(images)
    ]


def reference(real: np.ndarray, synthetic: np.ndarray) -> tuple[float, float, float, float]:
    """Kynkäänniemi et al. 2019, Eq. 1 to 3, k = 3; Naeem et al. 2020, section 3, k = 5."""
    small, of_synthetic, wide = radii(real, 3), radii(synthetic, 3), radii(real, 5)
    precision = [
        any(distance(x, y) <= r for x, r in zip(real, small, strict=True)) for y in synthetic
    ]
    recall = [
        any(distance(x, y) <= r for y, r in zip(synthetic, of_synthetic, strict=True)) for x in real
    ]
    inside = [[distance(x, y) <= r for y in synthetic] for x, r in zip(real, wide, strict=True)]
    density = sum(sum(row) for row in inside) / (5 * len(synthetic))
    coverage = [any(row) for row in inside]
    return (
        float(np.mean(precision)),
        float(np.mean(recall)),
        density,
        float(np.mean(coverage)),
    )


def values(found: Found) -> tuple[float, ...]:
    return tuple(found[name].value for name in MEASURES)


@pytest.mark.parametrize("tile", [7, 1000])
def test_neighbourhoods_equal_plain_loops(tile: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "TILE", tile)
    real, synthetic = draw(45, 0), draw(45, 1, scale=0.7, num_centres=3)
    expected = reference(real, synthetic)
    assert 0.1 < min(expected) < max(expected) < 2  # a case in which all four say something
    assert values(measure(real, synthetic)) == pytest.approx(expected, abs=1e-12)


def test_neighbourhoods_of_equal_distributions_are_as_expected() -> None:
    """Density 1 and the coverage that the formula gives, over draws."""
    found = [measure(draw(150, 2 * i), draw(150, 2 * i + 1)) for i in range(20)]
    for name, expected in (("density", 1.0), ("coverage", expected_coverage(150, 150, 5))):
        means = [one[name].value for one in found]
        error = np.std(means, ddof=1) / math.sqrt(20)
        assert abs(np.mean(means) - expected) < 3.5 * error
    assert found[0]["coverage"].expected == expected_coverage(150, 150, 5)


def test_expected_coverage_is_the_chance_that_k_nearest_are_all_real() -> None:
    """k = 1: the nearest of the other N - 1 + M images is real, (N - 1) / (N - 1 + M)."""
    assert expected_coverage(10, 30, 1) == pytest.approx(1 - 9 / 39)
    assert expected_coverage(10**6, 10**6, 5) == pytest.approx(1 - 2**-5, abs=1e-5)


def test_neighbourhoods_of_lost_clusters_lose_recall_and_coverage_not_precision() -> None:
    real = draw(400, 0)
    whole, lost = measure(real, draw(400, 1)), measure(real, draw(400, 1, num_centres=2))
    assert high(lost["coverage"]) < 0.7 * low(whole["coverage"])
    assert high(lost["recall"]) < 0.7 * low(whole["recall"])
    assert lost["precision"].value > low(whole["precision"]) - 0.1


def test_neighbourhoods_of_narrowed_clusters_are_dense_and_of_noise_not_precise() -> None:
    real = draw(400, 0)
    whole, narrow, noise = (measure(real, draw(400, 1, scale=scale)) for scale in (1, 0.5, 4))
    assert low(narrow["density"]) > high(whole["density"])
    assert high(noise["precision"]) < low(whole["precision"])
    assert high(noise["density"]) < low(whole["density"])


def test_neighbourhoods_intervals_hold_the_mean_over_draws() -> None:
    found = [measure(draw(100, 2 * i), draw(100, 2 * i + 1, scale=0.9)) for i in range(25)]
    for name in ("precision", "recall", "density", "coverage"):
        estimates = [one[name] for one in found]
        mean = np.mean([estimate.value for estimate in estimates])
        held = np.mean([low(estimate) <= mean <= high(estimate) for estimate in estimates])
        assert held >= 0.8, name
        widths = np.mean([high(estimate) - low(estimate) for estimate in estimates])
        spread = np.std([estimate.value for estimate in estimates])
        assert widths < 2.5 * 3.92 * spread, name  # not by being endless


def test_neighbourhoods_do_not_depend_on_the_norms() -> None:
    real, synthetic = draw(60, 0), draw(60, 1)
    factors = np.random.default_rng(0).uniform(0.1, 9, (60, 1)).astype(np.float32)
    assert values(measure(real, synthetic)) == pytest.approx(
        values(measure(real * factors, synthetic / factors)), abs=0.04
    )  # a neighbour at the very border may change sides


def test_neighbourhoods_take_as_many_of_each_by_seed_and_say_so() -> None:
    real, synthetic = draw(90, 0), draw(300, 1, scale=0.8)
    first, again, other = (measure(real, synthetic, seed=seed) for seed in (3, 3, 4))
    assert first == again
    assert values(first) != values(other)
    said = [number.protocol for number in first.values()]
    assert all("90 of 90 real and 90 of 300 synthetic images drawn with seed 3" in p for p in said)
    fewer = measure(real, synthetic, max_samples=50)
    assert "50 of 90 real and 50 of 300 synthetic" in fewer["recall"].protocol


def test_neighbourhoods_of_too_few_images_are_refused() -> None:
    with pytest.raises(ValueError, match="25 images of each domain are too few"):
        measure(draw(90, 0), draw(25, 1))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_count_neighbourhoods_on_the_gpu_equals_the_cpu() -> None:
    points, centres = draw(300, 0), draw(200, 1)
    bounds = np.random.default_rng(0).uniform(-0.5, 0.9, 200).astype(np.float32)
    found, expected = (
        count_neighbourhoods(points, centres, bounds, torch.device(name))
        for name in ("cuda", "cpu")
    )
    assert np.mean(found != expected) < 0.01  # sums in another order move the very border

"""Tests of memorisation: copies are flagged, fresh and merely poor images are not."""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np
import pytest
from scipy import stats

from pipeline.eval.domains.memorisation import (
    MIN_CELL_SAMPLES,
    TESTS,
    TooFewImagesError,
    mann_whitney,
    measure_copying,
    measure_memorisation,
    measure_train_share,
)
from pipeline.results.ledger import Measurement


class Measure(Protocol):
    def __call__(
        self, train: np.ndarray, test: np.ndarray, synthetic: np.ndarray, *, seed: int
    ) -> Measurement: ...


Found = dict[str, Measurement]
both = pytest.mark.parametrize("measure", [measure_copying, measure_train_share])


def draw(count: int, seed: int, *, scale: float = 1.0, centre: int | None = None) -> np.ndarray:
    """Clouds around four centres in 10 dimensions, or one of them."""
    generator = np.random.default_rng(seed)
    chosen = generator.integers(0, 4, count) if centre is None else np.full(count, centre)
    samples = np.eye(4, 10)[chosen] * 5 + scale * generator.standard_normal((count, 10))
    return samples.astype(np.float32)


def p_value(test: Measurement) -> float:
    assert test.p_value is not None
    return test.p_value


def is_usual(test: Measurement) -> bool:
    assert test.low is not None
    assert test.high is not None
    return test.low <= test.value <= test.high


def copy(images: np.ndarray, count: int, seed: int, noise: float) -> np.ndarray:
    generator = np.random.default_rng(seed)
    chosen = images[generator.integers(0, len(images), count)]
    return (chosen + noise * generator.standard_normal(chosen.shape)).astype(np.float32)


@both
@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_memorisation_of_copies_is_flagged(measure: Measure, noise: float) -> None:
    train, test = draw(400, 0), draw(200, 1)
    found = measure(train, test, copy(train, 500, 2, noise), seed=0)
    assert p_value(found) < 1e-3
    assert not is_usual(found)


@both
def test_memorisation_of_some_copies_among_fresh_images_is_flagged(measure: Measure) -> None:
    train, test = draw(600, 0), draw(300, 1)
    synthetic = np.concatenate([copy(train, 300, 2, 0.1), draw(600, 3)])
    assert p_value(measure(train, test, synthetic, seed=0)) < 0.01


@both
def test_memorisation_of_fresh_images_is_flagged_as_rarely_as_p_says(measure: Measure) -> None:
    found = [
        measure(draw(300, 3 * i), draw(150, 3 * i + 1), draw(300, 3 * i + 2), seed=i)
        for i in range(100)
    ]
    flagged = np.mean([p_value(one) <= 0.05 for one in found])
    assert flagged <= 0.05 + 3.5 * math.sqrt(0.05 * 0.95 / 100)
    inside = np.mean([is_usual(one) for one in found])
    assert inside >= 0.95 - 3.5 * math.sqrt(0.05 * 0.95 / 100)
    error = np.std([one.value for one in found]) / 10
    assert abs(np.mean([one.value - (one.expected or 0.0) for one in found])) < 3.5 * error
    # neither is a test that never speaks
    assert min(map(p_value, found)) < 0.2 < max(map(p_value, found))


@both
def test_memorisation_of_copied_test_images_is_not_flagged(measure: Measure) -> None:
    train, test = draw(400, 0), draw(200, 1)
    found = measure(train, test, copy(test, 500, 2, 0.0), seed=0)
    assert p_value(found) > 0.05  # C_T is about 0, of the very distances of the test images
    if found.metric == "memorisation_train_share":
        assert p_value(found) > 0.99


def test_train_share_tells_smooth_and_noisy_images_from_copies_where_c_t_does_not() -> None:
    smooth, noisy = [], []
    for i in range(40):
        train, test = draw(300, 3 * i), draw(150, 3 * i + 1)
        typical = draw(300, 3 * i + 2, scale=0.5)  # nobody's copies, but close to everything
        poor = copy(train, 300, i, 1.2)  # copies, but farther than test images are
        for found, synthetic in ((smooth, typical), (noisy, poor)):
            found.append(
                [
                    p_value(measure(train, test, synthetic, seed=i)) <= 0.05
                    for measure in (measure_copying, measure_train_share)
                ]
            )
    (smooth_c_t, smooth_share), (noisy_c_t, noisy_share) = np.mean([smooth, noisy], axis=1)
    assert smooth_c_t > 0.9
    assert smooth_share <= 0.05 + 3.5 * math.sqrt(0.05 * 0.95 / 40)
    assert noisy_c_t < 0.1
    assert noisy_share > 0.9


def measure_all(train: np.ndarray, test: np.ndarray, synthetic: np.ndarray, seed: int) -> Found:
    numbers = measure_memorisation(train, test, synthetic, seed=seed)
    assert tuple(number.metric for number in numbers) == TESTS
    return {number.metric.removeprefix("memorisation_"): number for number in numbers}


def is_conclusive(found: Found) -> bool:
    """Whether train and test images seem draws of one distribution."""
    return is_usual(found["c_t_control"]) and is_usual(found["train_share_control"])


def test_memorisation_of_test_images_of_their_own_kind_is_not_conclusive() -> None:
    """Fresh synthetic images look like copies, and so do the held-out train images."""
    found = measure_all(draw(450, 0), draw(200, 2, centre=0), draw(300, 1), seed=0)
    assert p_value(found["train_share"]) < 0.01
    assert not is_usual(found["train_share_control"])
    assert not is_conclusive(found)


def test_memorisation_of_too_typical_test_images_is_not_conclusive() -> None:
    """C_T takes noisy copies for farther than they should be; the share does not mind."""
    train, test = draw(450, 0), draw(200, 2, scale=0.4)
    found = measure_all(train, test, copy(train, 300, 1, 0.9), seed=0)
    assert p_value(found["c_t"]) > 0.5
    assert p_value(found["train_share"]) < 0.01
    assert not is_usual(found["c_t_control"])
    assert not is_conclusive(found)


def test_memorisation_of_a_random_split_is_conclusive_nine_times_in_ten() -> None:
    conclusive = []
    for i in range(40):
        train, test = draw(300, 2 * i), draw(150, 2 * i + 1)
        found = measure_all(train, test, copy(train, 200, i, 0.1), seed=i)
        conclusive.append(is_conclusive(found))
        assert max(p_value(found["c_t"]), p_value(found["train_share"])) < 1e-3
    assert np.mean(conclusive) >= 0.9 - 3.5 * math.sqrt(0.9 * 0.1 / 40)


def test_memorisation_controls_leave_the_synthetic_images_out_and_say_so() -> None:
    train, test = draw(300, 0), draw(150, 1)
    first, second = (measure_all(train, test, draw(200, seed), seed=3) for seed in (2, 3))
    assert first["c_t_control"] == second["c_t_control"]
    assert first["train_share_control"] == second["train_share_control"]
    assert first["train_share"] != second["train_share"]
    assert first["c_t"] == measure_copying(train, test, draw(200, 2), seed=3)
    assert first["train_share_control"].metric == "memorisation_train_share_control"
    assert first["train_share_control"].expected == pytest.approx(200 / 350)
    assert first["train_share_control"].protocol.startswith("control, with a random third")


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a.astype(np.float64), b.astype(np.float64)
    return float(a @ b / math.sqrt((a @ a) * (b @ b)))


def reference_z(train: np.ndarray, test: np.ndarray, synthetic: np.ndarray) -> float:
    """Meehan et al. 2020, of one cell: pair by pair."""
    held_out, made = (
        [1 - max(cosine(x, t) for t in train) for x in images] for images in (test, synthetic)
    )
    m, n = len(made), len(held_out)
    u = sum((q > p) + 0.5 * (q == p) for q in made for p in held_out)
    return (u - m * n / 2) / math.sqrt(m * n * (m + n + 1) / 12)


def test_copying_of_one_cell_equals_plain_loops() -> None:
    train, test, synthetic = draw(50, 0), draw(40, 1), draw(30, 2, scale=0.8)
    found = measure_copying(train, test, synthetic, seed=0)
    z = reference_z(train, test, synthetic)
    assert found.value == pytest.approx(z, abs=1e-9)
    assert found.p_value == pytest.approx(stats.norm.cdf(z), abs=1e-9)
    assert (found.low, found.high) == pytest.approx((-1.96, 1.96))


def test_copying_weighs_cells_by_their_test_images_and_leaves_out_small_ones() -> None:
    """Four cells, a cloud each; the last has too few synthetic images to count."""
    sizes = [(70, 40), (50, 30), (60, 50), (40, MIN_CELL_SAMPLES - 1)]
    clouds = [
        (
            draw(100, 10 * i, centre=i, scale=0.5),
            draw(test, 10 * i + 1, centre=i, scale=0.5),
            draw(synthetic, 10 * i + 2, centre=i, scale=0.4 + 0.1 * i),
        )
        for i, (test, synthetic) in enumerate(sizes)
    ]
    train, test, synthetic = (np.concatenate(part) for part in zip(*clouds, strict=True))
    found = measure_copying(train, test, synthetic, seed=0)
    scores = [reference_z(*cloud) for cloud in clouds[:3]]
    expected = (70 * scores[0] + 50 * scores[1] + 60 * scores[2]) / 180
    assert found.value == pytest.approx(expected, abs=1e-9)
    deviation = math.sqrt(70**2 + 50**2 + 60**2) / 180
    assert found.p_value == pytest.approx(stats.norm.cdf(expected / deviation), abs=1e-9)
    assert "3 of 4 k-means cells" in found.protocol


def test_memorisation_with_too_few_images_for_a_control_alone_is_refused() -> None:
    train, test, synthetic = (draw(count, seed) for seed, count in enumerate((60, 60, 60)))
    measure_copying(train, test, synthetic, seed=0)
    measure_memorisation(train, test, synthetic, seed=0)
    with pytest.raises(TooFewImagesError):
        measure_memorisation(train[:57], test, synthetic, seed=0)


def test_copying_with_too_few_images_is_refused() -> None:
    with pytest.raises(ValueError, match="no cell has 20 of 200 test and 10 synthetic"):
        measure_copying(draw(300, 0), draw(200, 1), draw(10, 2), seed=0)


def test_train_share_equals_plain_loops() -> None:
    train, test, synthetic = draw(30, 0), draw(20, 1), draw(40, 2)
    near = [max(cosine(x, t) for t in train) > max(cosine(x, t) for t in test) for x in synthetic]
    found = measure_train_share(train, test, synthetic, seed=0)
    assert found.value == pytest.approx(np.mean(near))
    assert found.expected == pytest.approx(0.6)


def test_train_share_does_not_take_images_around_one_real_one_for_independent() -> None:
    """All 500 synthetic images are the same fresh one: chance alone makes the share 0 or 1."""
    shares = []
    for seed in range(30):
        train, test = draw(100, 2 * seed), draw(100, 2 * seed + 1)
        synthetic = np.repeat(draw(1, 1000 + seed), 500, 0)
        found = measure_train_share(train, test, synthetic, seed=0)
        assert p_value(found) > 0.4
        shares.append(found.value)
    assert set(shares) == {0.0, 1.0}


def test_train_share_p_value_is_that_of_permuted_images() -> None:
    train, test, synthetic = draw(60, 0), draw(60, 1), draw(200, 2)
    real = np.concatenate([train, test])
    closest = np.array([np.argmax([cosine(x, r) for r in real]) for x in synthetic])
    generator = np.random.default_rng(0)
    shares = np.array(
        [np.isin(closest, generator.permutation(120)[:60]).mean() for _ in range(5000)]
    )
    found = measure_train_share(train, test, synthetic, seed=0)
    assert found.p_value == pytest.approx(np.mean(shares >= found.value - 1e-9), abs=0.035)
    assert (found.low, found.high) == pytest.approx(np.quantile(shares, [0.025, 0.975]), abs=0.02)


@both
def test_memorisation_says_what_it_did_and_repeats_by_seed(measure: Measure) -> None:
    train, test, synthetic = draw(210, 0), draw(120, 1), draw(330, 2)
    found = measure(train, test, synthetic, seed=7)
    assert found == measure(train, test, synthetic, seed=7)
    for part in ("210", "120 test", "330 synthetic", "seed 7", "cosine"):
        assert part in found.protocol


@pytest.mark.parametrize("ties", [False, True])
def test_mann_whitney_equals_scipy(ties: bool) -> None:
    generator = np.random.default_rng(0)
    first, second = generator.standard_normal(37), generator.standard_normal(23) + 0.4
    if ties:
        first, second = first.round(), second.round()
    u = stats.mannwhitneyu(first, second).statistic
    expected = (u - 37 * 23 / 2) / math.sqrt(37 * 23 * 61 / 12)
    assert mann_whitney(first, second) == pytest.approx(expected, rel=1e-12)

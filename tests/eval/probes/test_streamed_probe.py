"""The streamed probe beside the exact one, on sets where both run."""

from __future__ import annotations

import resource
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from benchmarks.measure import in_process
from pipeline.eval.logistic import streamed
from pipeline.eval.probes import linear_probe, streamed_probe
from pipeline.eval.probes.linear_probe import FittedProbe, fit_linear_probe
from pipeline.student.vectors import Vectors

Split = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


@pytest.fixture
def _streams(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is small enough for memory; draws of a sixteenth, a quarter and all of 2**18."""
    monkeypatch.setattr(linear_probe, "EXACT_NUMBERS", 0)
    monkeypatch.setattr(streamed_probe, "FIRST_NUMBERS", 2**14)
    monkeypatch.setattr(streamed, "BATCH_NUMBERS", 2**15)


def draw_means(num_train: int, num_dims: int, num_classes: int, separation: float) -> Split:
    """Class means and noise, off centre; 20,000 to test on."""
    generator = np.random.default_rng(0)
    means = generator.standard_normal((num_classes, num_dims)) * separation / num_dims**0.5
    labels = generator.integers(0, num_classes, num_train + 20_000)
    rows = means[labels] + generator.standard_normal((len(labels), num_dims)) + 2
    rows = rows.astype(np.float32)
    return rows[:num_train], labels[:num_train], rows[num_train:], labels[num_train:]


def percent(probe: FittedProbe, rows: np.ndarray, labels: np.ndarray) -> float:
    return 100 * float(np.mean(probe.predict(Vectors([rows])) == labels))


def both(split: Split, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Top-1 of the streamed and of the exact probe."""
    train, labels, test, wanted = split
    found = []
    for limit in (0, 2**40):
        monkeypatch.setattr(linear_probe, "EXACT_NUMBERS", limit)
        probe = fit_linear_probe(Vectors([train]), labels, seed=0)
        assert ("mini-batches" in probe.protocol) == (limit == 0)
        found.append(percent(probe, test, wanted))
    return found


@pytest.mark.usefixtures("_streams")
@pytest.mark.parametrize(
    ("num_classes", "separation", "least", "most"), [(4, 1.0, 45, 60), (12, 3.0, 70, 95)]
)
def test_streamed_probe_is_within_a_fifth_of_a_point_of_the_exact_one(
    num_classes: int, separation: float, least: float, most: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    split = draw_means(2**14, 16, num_classes, separation)
    ours, exact = both(split, monkeypatch)
    assert least < exact < most
    assert abs(ours - exact) <= 0.2


@pytest.mark.slow
@pytest.mark.usefixtures("_streams")
def test_streamed_probe_of_digits_is_within_a_sample_in_300_of_the_exact_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """597 test images, of which one is 0.17 points."""
    pixels, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(pixels))
    pixels, labels = pixels[order].astype(np.float32) / 16, labels[order]
    ours, exact = both((pixels[:1200], labels[:1200], pixels[1200:], labels[1200:]), monkeypatch)
    assert abs(ours - exact) <= 200 / 597


@pytest.mark.usefixtures("_streams")
def test_streamed_probe_of_few_rows_in_many_classes_leaves_the_weak_penalties(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Three rows a class, of which the first draw is, want no penalty; 200 want a strong one."""
    monkeypatch.setattr(streamed_probe, "FIRST_NUMBERS", 2**12)
    train, labels, test, wanted = draw_means(8000, 40, 40, 2.5)
    probe = fit_linear_probe(Vectors([train]), labels, seed=0)
    means = np.stack([train[labels == label].mean(0) for label in range(40)])
    nearest = np.square(test[:, None] - means).sum(2).argmin(1)
    best = 100 * float(np.mean(nearest == wanted))  # for such rows the right classifier
    assert percent(probe, test, wanted) > best - 1
    assert probe.fit.C < 0.1


@pytest.mark.usefixtures("_streams")
def test_streamed_probe_of_collinear_rows_on_odd_scales_with_rare_classes() -> None:
    """Scales from 10 to 1e-3, columns twice and constant, labels with gaps sorted by class."""
    generator = np.random.default_rng(0)
    labels = np.sort(generator.choice([-3, 4, 90, 91], 9000, p=[0.6, 0.395, 0.0049, 0.0001]))
    centres = 6 * generator.standard_normal((4, 10))
    rows = centres[np.searchsorted([-3, 4, 90, 91], labels)] + generator.standard_normal((9000, 10))
    rows *= np.geomspace(10, 1e-3, 10)
    mixed = rows @ np.linalg.qr(generator.standard_normal((10, 10)))[0]
    train = np.concatenate([mixed, mixed[:, :3], np.full((9000, 2), 5.0)], 1).astype(np.float32)
    assert (labels == 91).any()

    probe = fit_linear_probe(Vectors([train]), labels, seed=0)

    assert probe.classes.tolist() == [-3, 4, 90, 91]
    assert percent(probe, train, labels) > 99.5
    assert np.isfinite(probe.predict_probabilities(Vectors([train[:50]]))).all()


@pytest.mark.usefixtures("_streams")
def test_streamed_probe_is_the_same_for_a_seed_and_whatever_the_blocks() -> None:
    train, labels, test, _ = draw_means(4000, 16, 3, 1.0)
    halves = Vectors([train[:1000], train[1000:]])
    first, second = (fit_linear_probe(rows, labels, seed=4) for rows in (Vectors([train]), halves))
    assert first.fit.weight.equal(second.fit.weight)
    assert first.predict(Vectors([test])).tolist() == second.predict(Vectors([test])).tolist()


@pytest.mark.usefixtures("_streams")
def test_streamed_probe_of_two_classes_of_constant_rows_predicts() -> None:
    labels = np.arange(200) % 2
    probe = fit_linear_probe(Vectors([np.ones((200, 3), np.float32)]), labels, seed=0)
    assert probe.predict(Vectors([np.ones((2, 3), np.float32)])).shape == (2,)


@pytest.mark.usefixtures("_streams")
def test_streamed_probe_reports_rows_up_to_all_of_them() -> None:
    train, labels, _, _ = draw_means(2000, 16, 3, 1.0)
    told: list[tuple[int, int]] = []
    fit_linear_probe(
        Vectors([train]), labels, seed=0, report=lambda done, total: told.append((done, total))
    )
    done = [rows for rows, _ in told]
    assert done == sorted(done)
    assert done[0] > 0
    assert all(rows <= total for rows, total in told)
    assert told[-1][0] == told[-1][1]


@pytest.mark.usefixtures("_streams")
def test_streamed_probe_of_one_class_is_refused() -> None:
    with pytest.raises(ValueError, match="fewer than two classes"):
        fit_linear_probe(Vectors([np.ones((9, 3), np.float32)]), np.zeros(9, int), seed=0)


def _fit_within(folder: Path, exact_numbers: int, spare_bytes: int) -> float:
    """Top-1 on the train rows themselves, in a process that may have so much more memory."""
    linear_probe.EXACT_NUMBERS = exact_numbers
    streamed_probe.FIRST_NUMBERS = streamed.BATCH_NUMBERS = 2**18
    labels = np.load(folder / "labels.npy")
    train = Vectors([np.load(folder / "rows.npy", mmap_mode="r")])
    fit_linear_probe(train.take(np.arange(999)), labels[:999], seed=0)  # libraries have their own
    status = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    (mapped,) = (int(line.split()[1]) * 1024 for line in status if line.startswith("VmData"))
    resource.setrlimit(resource.RLIMIT_DATA, (mapped + spare_bytes,) * 2)
    probe = fit_linear_probe(train, labels, seed=0)
    some = np.arange(0, len(labels), 100)
    return 100 * float(np.mean(probe.predict(train.take(some)) == labels[some]))


@pytest.mark.slow
def test_streamed_probe_runs_in_a_fifth_of_the_rows_memory_and_the_exact_one_does_not(
    tmp_path: Path,
) -> None:
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 3, 3 * 2**17)
    rows = generator.standard_normal((len(labels), 128), np.float32)
    rows += 3 * generator.standard_normal((3, 128), np.float32)[labels] / 128**0.5
    np.save(tmp_path / "rows.npy", rows)  # 192 MiB
    np.save(tmp_path / "labels.npy", labels)
    del rows
    assert in_process(_fit_within, tmp_path, 0, 40 * 2**20) > 90
    with pytest.raises((MemoryError, RuntimeError), match="allocate"):
        in_process(_fit_within, tmp_path, 2**40, 40 * 2**20)

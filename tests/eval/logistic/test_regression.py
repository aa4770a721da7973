"""Fits against scikit-learn's, run to a tight tolerance in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from pipeline.eval.logistic.linear_loss import softmax_loss
from pipeline.eval.logistic.regression import (
    TOLERANCE,
    LogisticFit,
    LogisticPath,
    fit_logistic,
)

CPU = torch.device("cpu")


def draw_clouds(
    count: int, num_classes: int, separation: float = 1.0, seed: int = 0, num_dims: int = 6
) -> tuple[Tensor, Tensor]:
    """Overlapping Gaussian clouds off centre, float64; deviations from 2 to 0.02."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, num_classes, count)
    centres = np.random.default_rng(99).standard_normal((num_classes, num_dims)) * separation
    scales = np.geomspace(2, 0.02, num_dims)
    mixing = np.linalg.qr(np.random.default_rng(98).standard_normal((num_dims, num_dims)))[0]
    samples = ((centres[labels] + generator.standard_normal((count, num_dims))) * scales) @ mixing
    return torch.from_numpy(samples + 3), torch.from_numpy(labels)


def reference(features: Tensor, labels: Tensor, C: float) -> tuple[Tensor, Tensor]:
    # the same objective as its default solver's, but that one stops far from the weak optima
    model = LogisticRegression(C=C, tol=1e-12, solver="newton-cholesky", max_iter=1000)
    model.fit(features.double().numpy(), labels.numpy())
    return torch.from_numpy(model.coef_), torch.from_numpy(model.intercept_)


def objective(fit: LogisticFit, features: Tensor, labels: Tensor) -> float:
    """Written from scikit-learn's user guide, a sample at a time, divided by C N."""
    loss, parameters = 0.0, list(zip(fit.weight, fit.bias, strict=True))
    for row, label in zip(features.double(), labels.tolist(), strict=True):
        logits = [float(weight @ row + bias) for weight, bias in parameters]
        largest = max(logits)
        loss += largest + math.log(sum(math.exp(x - largest) for x in logits)) - logits[label]
    return loss / len(labels) + float((fit.weight**2).sum()) / (2 * fit.C * len(labels))


@pytest.mark.parametrize(
    ("dtype", "tolerance", "error"),
    [
        (torch.float64, 1e-12, 1e-3),
        # what excess e of the objective leaves of distance in a direction of curvature h is
        # sqrt(2 e / h), and the flattest here has h of 1e-6
        (torch.float32, 1e-8, 2e-2),
    ],
)
def test_fit_of_every_c_has_scikit_learns_coefficients(
    dtype: torch.dtype, tolerance: float, error: float
) -> None:
    features, labels = draw_clouds(200, 4)
    grid = [100.0, 1e-4, 1.0, 1e4, 0.01]

    fits = fit_logistic(
        features.to(dtype), labels, grid, num_classes=4, device=CPU, tolerance=tolerance
    )

    assert [fit.C for fit in fits] == grid
    for fit in fits:
        weight, bias = reference(features, labels, fit.C)
        assert fit.is_converged
        distance = (fit.weight - weight).norm() / weight.norm()
        assert distance < error
        # a constant on all biases changes nothing
        ours, theirs = (b - b.mean() for b in (fit.bias, bias))
        assert (ours - theirs).abs().max() < error * 3 * weight.norm()  # the features' mean is 3


def test_fit_reports_the_objective_and_an_excess_above_the_true_one() -> None:
    features, labels = draw_clouds(150, 3)
    loose, tight = (
        fit_logistic(features, labels, [10.0], num_classes=3, device=CPU, tolerance=tolerance)[0]
        for tolerance in (1e-3, 1e-13)
    )

    assert loose.objective == pytest.approx(objective(loose, features, labels), rel=1e-5)
    true_excess = objective(loose, features, labels) - objective(tight, features, labels)
    assert 0 < true_excess < 3e-3 * tight.objective
    assert loose.excess / 10 < true_excess < 10 * loose.excess


def test_fit_two_classes_has_scikit_learns_weight_in_two_halves() -> None:
    features, labels = draw_clouds(120, 2)

    (fit,) = fit_logistic(features, labels, [3.0], num_classes=2, device=CPU, tolerance=1e-12)

    weight, bias = reference(features, labels, 3.0)
    torch.testing.assert_close(fit.weight, torch.cat([-weight, weight]) / 2, rtol=1e-3, atol=1e-4)
    assert float(fit.bias[1] - fit.bias[0]) == pytest.approx(float(bias), rel=1e-3, abs=1e-3)


def test_fit_one_class_against_the_rest_is_scikit_learns_binary_fit_of_each() -> None:
    features, labels = draw_clouds(150, 3)
    several = torch.nn.functional.one_hot(labels, 3)
    several[::5, 0] = 1  # a sample may be of two classes

    fits = fit_logistic(features, several, [0.1, 30.0], num_classes=3, device=CPU, tolerance=1e-12)

    for fit in fits:
        for label in range(3):
            weight, bias = reference(features, several[:, label], fit.C)
            torch.testing.assert_close(fit.weight[label], weight[0], rtol=2e-3, atol=2e-3)
            assert float(fit.bias[label]) == pytest.approx(float(bias), rel=2e-3, abs=2e-3)


@pytest.mark.parametrize("C", [1.0, 1e6])
def test_fit_separable_classes_is_perfect_and_converges(C: float) -> None:
    features, labels = draw_clouds(120, 4, separation=40)
    test, test_labels = draw_clouds(200, 4, separation=40, seed=1)

    (fit,) = fit_logistic(features, labels, [C], num_classes=4, device=CPU)

    assert fit.is_converged
    assert fit.predict(test).tolist() == test_labels.tolist()


def test_fit_shuffled_labels_predicts_near_chance() -> None:
    features, labels = draw_clouds(400, 4, separation=5)
    test, test_labels = draw_clouds(400, 4, separation=5, seed=1)
    shuffled = labels[torch.from_numpy(np.random.default_rng(3).permutation(400))]

    (fit,) = fit_logistic(features, shuffled, [1.0], num_classes=4, device=CPU)

    # labels say nothing, but the four clouds may each get one wrong name by luck
    assert (fit.predict(test) == test_labels).double().mean() < 0.6


def test_fit_is_the_same_with_and_without_constant_and_repeated_features() -> None:
    features, labels = draw_clouds(150, 3)
    more = torch.cat([features, torch.full((150, 1), 7.0), torch.zeros(150, 1)], 1)

    (fit,), (wider,) = (
        fit_logistic(x, labels, [10.0], num_classes=3, device=CPU, tolerance=1e-12)
        for x in (features, more)
    )

    torch.testing.assert_close(wider.weight[:, :6], fit.weight, rtol=1e-3, atol=1e-3)
    assert wider.weight[:, 6:].abs().max() < 1e-5
    # a feature twice is one of √2 times the length
    twice = torch.cat([features, features], 1)
    (found,) = fit_logistic(twice, labels, [5.0], num_classes=3, device=CPU, tolerance=1e-12)
    torch.testing.assert_close(found.weight[:, :6], fit.weight / 2, rtol=1e-3, atol=1e-3)


def test_fit_more_dimensions_than_samples_has_scikit_learns_coefficients() -> None:
    features, labels = draw_clouds(30, 3, num_dims=50)

    (fit,) = fit_logistic(features, labels, [1.0], num_classes=3, device=CPU, tolerance=1e-12)

    weight, _ = reference(features, labels, 1.0)
    torch.testing.assert_close(fit.weight, weight, rtol=1e-3, atol=1e-3 * float(weight.norm()))


def test_fit_ill_conditioned_features_reaches_the_optimum_at_the_weakest_penalty() -> None:
    """Deviations from 1 to 1e-4 around a mean of 3: what a float32 fit of the features as they are
    cannot resolve.
    """
    generator = np.random.default_rng(5)
    latent = generator.standard_normal((300, 5))
    labels = (latent[:, 4] + 0.5 * generator.standard_normal(300) > 0).astype(np.int64)
    mixing = np.linalg.qr(generator.standard_normal((5, 5)))[0]
    samples = ((latent * np.geomspace(1, 1e-4, 5)) @ mixing + 3).astype(np.float32)
    features, targets = torch.from_numpy(samples), torch.from_numpy(labels)

    (fit,) = fit_logistic(features, targets, [1e9], num_classes=2, device=CPU)

    # the informative axis in full: scikit-learn's on the same samples, rescaled to unit variance
    whitened = torch.from_numpy(((samples - samples.mean(0)) @ mixing.T) / np.geomspace(1, 1e-4, 5))
    model = LogisticRegression(C=1e9, tol=1e-9, max_iter=10_000).fit(whitened, labels)
    found = fit.predict(features).numpy()
    assert (found == model.predict(whitened)).mean() > 0.98
    assert (found == labels).mean() > 0.8


def test_fit_absent_class_is_never_predicted_and_changes_nothing_else() -> None:
    features, labels = draw_clouds(150, 3)
    shifted = torch.where(labels == 2, 3, labels)  # nobody is 2

    (fit,) = fit_logistic(features, labels, [1.0], num_classes=3, device=CPU)
    (found,) = fit_logistic(features, shifted, [1.0], num_classes=4, device=CPU)

    assert found.bias[2] == -math.inf
    assert torch.equal(found.weight[[0, 1, 3]], fit.weight)
    assert (found.predict(features) != 2).all()


def test_fit_twice_gives_the_same_bytes_whatever_the_order_of_c() -> None:
    features, labels = draw_clouds(150, 3)
    grid = [1.0, 100.0, 0.01]

    first = fit_logistic(features, labels, grid, num_classes=3, device=CPU)
    second = fit_logistic(features, labels, grid[::-1], num_classes=3, device=CPU)

    for fit, same in zip(first, second[::-1], strict=True):
        assert torch.equal(fit.weight, same.weight)
        assert torch.equal(fit.bias, same.bias)


def test_fit_from_a_start_has_the_same_optimum() -> None:
    features, labels = draw_clouds(150, 3)
    fits = [
        fit_logistic(
            features, labels, [1.0], num_classes=3, device=CPU, start=start, tolerance=1e-12
        )[0]
        for start in (
            None,
            fit_logistic(features[:99], labels[:99], [10.0], num_classes=3, device=CPU)[0],
        )
    ]

    torch.testing.assert_close(fits[0].weight, fits[1].weight, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features": torch.full((4, 2), math.nan)}, "not finite"),
        ({"inverse_penalties": [1.0, 0.0]}, "C is 0.0"),
        ({"labels": torch.zeros(4, dtype=torch.int64)}, "fewer than two classes"),
        ({"labels": torch.tensor([0, 1, 2, 5])}, r"not all are in 0\.\.2"),
        ({"labels": torch.tensor([[0, 1, 1], [1, 0, 1], [0, 1, 1], [0, 1, 1]])}, "of class 2"),
        ({"labels": torch.tensor([[0, 1], [1, 0], [0, 1], [0, 1]])}, "each of 3 classes"),
    ],
)
def test_fit_refuses_what_has_no_optimum(change: dict[str, object], message: str) -> None:
    arguments = {
        "features": torch.randn(4, 2, generator=torch.Generator().manual_seed(0)),
        "labels": torch.tensor([0, 1, 2, 0]),
        "inverse_penalties": [1.0],
        **change,
    }
    with pytest.raises(ValueError, match=message):
        fit_logistic(**arguments, num_classes=3, device=CPU)  # type: ignore[arg-type]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_fit_on_a_gpu_has_the_optimum_of_the_cpu() -> None:
    features, labels = draw_clouds(300, 4)
    cpu, gpu = (
        fit_logistic(features, labels, [1.0, 100.0], num_classes=4, device=device, tolerance=1e-12)
        for device in (CPU, torch.device("cuda"))
    )

    for ours, theirs in zip(cpu, gpu, strict=True):
        torch.testing.assert_close(theirs.weight.cpu(), ours.weight, rtol=1e-3, atol=1e-3)


def test_softmax_loss_of_wide_margins_has_no_subnormal_gradients() -> None:
    """Products of matrices with them take ten times as long on a CPU."""
    logits = torch.tensor([[0.0, -50.0, -95.0, -300.0], [-95.0, 0.0, -88.0, 2.0]])
    losses, slopes, curvatures = softmax_loss(logits.clone(), torch.tensor([0, 1]))
    tiny = torch.finfo(torch.float32).tiny
    for found in (losses, slopes, curvatures):
        assert bool(((found == 0) | (found.abs() >= tiny)).all())
    exact = logits.double().requires_grad_()
    torch.nn.functional.cross_entropy(exact, torch.tensor([0, 1]), reduction="sum").backward()
    torch.testing.assert_close(slopes.double(), exact.grad, rtol=1e-5, atol=1e-15)


def test_path_goes_on_from_a_rough_fit_to_the_same_optimum_in_all_in_fewer_passes() -> None:
    features, labels = draw_clouds(400, 3, separation=8)  # separable: the objective vanishes
    path = LogisticPath(features, labels, num_classes=3, device=CPU)
    rough = path.fit(1e4, roughly=True)
    exact = path.fit(1e4)
    tight = path.fit(1e4, 1e-9)
    (direct,) = fit_logistic(features, labels, [1e4], num_classes=3, device=CPU, tolerance=1e-9)

    assert rough.is_converged
    assert rough.excess <= 1e-5 * math.log(3)
    assert rough.num_passes < exact.num_passes / 2
    assert rough.objective > 1.01 * exact.objective
    assert exact.is_converged
    # The estimate that ends a fit may be 300 times too small (`ObjectiveAt.excess`), and where in
    # that range it is hangs on rounding: features that differ by 1e-9 end up to 1e-5 apart at 1e-7.
    assert exact.objective == pytest.approx(direct.objective, rel=300 * TOLERANCE)
    assert tight.objective == pytest.approx(direct.objective, rel=1e-6)  # 300 * 1e-9, and a margin
    assert (rough.predict(features) == exact.predict(features)).all()

"""Optimisers against their formulas, and the learning rate of every step."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from pipeline.config.train import TrainConfig
from pipeline.engine.lars import TRUST
from pipeline.records.spec import recorded_fields
from pipeline.train.method import Method
from pipeline.train.optimizer import StudentOptimizer, divergence_remedy, learning_rate
from tests.support.tiny_shards import TRAIN_CONFIG
from tests.support.trainings import CPU, changed, config_of, make_method

RATE, DECAY, MOMENTUM = 0.05, 0.1, 0.9
NUM_STEPS = 4


def config_with(optimizer: dict[str, Any], **fields: Any) -> TrainConfig:
    values = {"learning_rate": RATE, "weight_decay": DECAY, "momentum": MOMENTUM}
    return changed(TRAIN_CONFIG, **{**values, "global_batch": 256, **fields}, optimizer=optimizer)


def steps(config: TrainConfig, name: str) -> tuple[list[Tensor], list[Tensor]]:
    """A parameter of a method before and after each step, and the gradients that it had."""
    method = make_method(config_of("vicreg real")).double()
    optimizer = StudentOptimizer(config, method, CPU)
    parameter = method.get_parameter(name)
    generator = torch.Generator().manual_seed(0)
    values, gradients = [parameter.detach().clone()], []
    for _ in range(NUM_STEPS):
        for each in method.parameters():
            each.grad = torch.randn(each.shape, generator=generator, dtype=torch.float64)
        assert parameter.grad is not None
        gradients.append(parameter.grad.clone())
        optimizer.step(epoch=0)
        values.append(parameter.detach().clone())
    return values, gradients


def sgd(values: list[Tensor], gradients: list[Tensor], decay: float, trust: float | None) -> Tensor:
    """SGD with momentum; with `trust`, on gradients adapted as in VICReg's code."""
    value, velocity = values[0], torch.zeros_like(values[0])
    for gradient in gradients:
        slope = gradient + decay * value
        if trust is not None:
            slope = slope * trust * value.norm() / slope.norm()
        velocity = MOMENTUM * velocity + slope
        value = value - RATE * velocity
    return value


def adamw(values: list[Tensor], gradients: list[Tensor], decay: float) -> Tensor:
    """Loshchilov & Hutter 2019, Algorithm 2, with β = (0.9, 0.999) and ε = 1e-8."""
    value = values[0]
    first, second = torch.zeros_like(value), torch.zeros_like(value)
    for step, gradient in enumerate(gradients, 1):
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient.square()
        moved = (first / (1 - 0.9**step)) / ((second / (1 - 0.999**step)).sqrt() + 1e-8)
        value = value - RATE * (moved + decay * value)
    return value


WEIGHT, BIAS = "backbone.layer1.0.conv1.weight", "backbone.layer1.0.bn1.weight"


@pytest.mark.parametrize("decay", ["all", "weights"])
@pytest.mark.parametrize("parameter", [WEIGHT, BIAS])
@pytest.mark.parametrize("name", ["sgd", "lars", "adamw"])
def test_optimizer_equals_its_formula(name: str, parameter: str, decay: str) -> None:
    values, gradients = steps(config_with({"name": name, "decay": decay}), parameter)
    is_spared = decay == "weights" and parameter == BIAS
    share = 0.0 if is_spared else DECAY
    if name == "adamw":
        expected = adamw(values, gradients, share)
    else:
        trust = TRUST if name == "lars" and not is_spared else None
        expected = sgd(values, gradients, share, trust)
    # float64 on both sides, sums in another order
    torch.testing.assert_close(values[-1], expected, rtol=1e-9, atol=1e-12)


def test_every_parameter_is_moved_once_whatever_has_decay() -> None:
    method = make_method(TRAIN_CONFIG, [4, 4])
    for decay in ("all", "weights"):
        optimizer = StudentOptimizer(config_with({"decay": decay}), method, CPU)
        counts = [len(group["params"]) for group in optimizer.state_dict()["param_groups"]]
        assert sum(counts) == len(list(method.parameters()))


def test_gradient_of_all_networks_together_is_shortened_to_the_longest_allowed() -> None:
    method = make_method(config_of("vicreg real")).double()
    before = [value.detach().clone() for value in method.parameters()]
    config = config_with({"clip_norm": 0.5, "decay": "weights"}, weight_decay=0.0)  # two groups
    optimizer = StudentOptimizer(config, method, CPU)
    for value in method.parameters():
        value.grad = torch.ones_like(value)
    optimizer.step(epoch=0)
    moved = torch.cat(
        [
            (old - new.detach()).flatten()
            for old, new in zip(before, method.parameters(), strict=True)
        ]
    )
    assert float(moved.norm()) == pytest.approx(0.5 * RATE, rel=1e-5)  # torch adds 1e-6 to the norm


def test_optimizer_goes_on_from_its_state() -> None:
    config = config_with({"name": "adamw", "decay": "weights"})

    def move(optimizer: StudentOptimizer, method: Method, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        for value in method.parameters():
            value.grad = torch.randn(value.shape, generator=generator)
        optimizer.step(epoch=0)

    whole, part = (make_method(config_of("vicreg real")) for _ in range(2))
    first, second = (StudentOptimizer(config, method, CPU) for method in (whole, part))
    move(first, whole, 0)
    move(second, part, 0)
    resumed = StudentOptimizer(config, part, CPU)
    resumed.load_state_dict(second.state_dict())
    move(first, whole, 1)
    move(resumed, part, 1)
    torch.testing.assert_close(part.state_dict(), whole.state_dict(), rtol=0, atol=0)


def test_learning_rate_is_linear_in_the_batch_and_a_cosine_over_epochs() -> None:
    config = changed(TRAIN_CONFIG, learning_rate=0.03, global_batch=512, epochs=800)
    assert learning_rate(config, 0) == pytest.approx(0.06)
    assert learning_rate(config, 400) == pytest.approx(0.03)
    assert learning_rate(config, 200) == pytest.approx(0.06 * (1 + math.sqrt(0.5)) / 2)
    assert learning_rate(config, 800) == pytest.approx(0, abs=1e-12)
    rates = [learning_rate(config, epoch) for epoch in range(801)]
    assert rates == sorted(rates, reverse=True)


@pytest.mark.parametrize(
    ("optimizer", "epoch", "expected"),
    [
        ({}, 3.9, 0.5 * (1 + math.cos(0.3 * math.pi))),
        ({"stepped": "step"}, 3.9, 0.5 * (1 + math.cos(0.39 * math.pi))),
        ({"schedule": "constant"}, 9.9, 1.0),
        ({"warmup_epochs": 2}, 0, 0.0),
        ({"warmup_epochs": 2}, 0.5, 0.25),
        ({"warmup_epochs": 2}, 2, 1.0),
        ({"warmup_epochs": 2}, 6.5, 0.5),
        ({"warmup_epochs": 2, "stepped": "step"}, 6.5, 0.5 * (1 + math.cos(4.5 / 8 * math.pi))),
        ({"warmup_epochs": 2, "schedule": "constant"}, 1, 0.5),
        ({"final_rate": 0.1}, 5, 0.55),
        ({"final_rate": 0.1}, 10, 0.1),
    ],
)
def test_learning_rate_follows_the_schedule(
    optimizer: dict[str, Any], epoch: float, expected: float
) -> None:
    config = config_with(optimizer, epochs=10)
    assert learning_rate(config, epoch) == pytest.approx(RATE * expected)


def test_predictor_of_simsiam_warms_up_and_then_keeps_its_rate() -> None:
    plain = {"method": {"name": "simsiam"}, "momentum": 0.0, "weight_decay": 0.0}
    config = config_with({"warmup_epochs": 1}, epochs=10, **plain)
    method = make_method(config).double()
    optimizer = StudentOptimizer(config, method, CPU)
    weight = method.get_parameter("predictor.0.weight")

    def moved(epoch: float) -> float:
        before = weight.detach().clone()
        for value in method.parameters():
            value.grad = torch.ones_like(value)
        optimizer.step(epoch)
        return float((before - weight.detach()).mean())

    assert moved(0.5) == pytest.approx(RATE / 2)
    assert moved(9) == pytest.approx(RATE)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"optimizer": {"accumulate": 4}}, "statistics of their own"),
        ({"optimizer": {"micro_batch": 4}}, "statistics of their own"),
        ({"optimizer": {"warmup_epochs": 4}, "epochs": 4}, "warm up over fewer"),
    ],
)
def test_impossible_schedule_is_refused_with_its_reason(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        changed(TRAIN_CONFIG, **fields)


def test_loss_that_ends_early_is_told_of_the_warm_up_and_the_rate() -> None:
    config = config_with({}, learning_rate=0.3, global_batch=2048)
    early = divergence_remedy(config, 99)
    assert "train.optimizer.warmup_epochs" in early
    assert "is 2.4" in early
    assert "warmup" not in divergence_remedy(config, 100)
    warm = config_with({"warmup_epochs": 2}, epochs=10)
    assert divergence_remedy(warm, 5).startswith("raise train.optimizer.warmup_epochs, now 2,")


def test_optimizer_is_in_the_record_only_where_it_is_not_the_papers() -> None:
    assert "optimizer" not in recorded_fields(TrainConfig())
    made = TrainConfig.model_validate({"optimizer": {"name": "lars"}})
    assert recorded_fields(made)["optimizer"] == {"name": "lars"}

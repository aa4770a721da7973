"""How the weights follow their gradients: optimiser, weight decay, clipping, and the learning rate
as a function of the step.

Neighbours: `config/optimizer.py` has the settings, `step.py` asks once a step.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from pipeline.config.train import TrainConfig
from pipeline.engine.lars import Lars
from pipeline.train.method import Method

_FIRST_STEPS = 100


def learning_rate(config: TrainConfig, epoch: float) -> float:
    """Rate at `epoch`, a fraction within one: linear in the global batch; after the warm-up, which
    is linear, constant or a cosine from where that ended.
    """
    optimizer, rate = config.optimizer, base_rate(config, epoch)
    if epoch < optimizer.warmup_epochs or optimizer.schedule == "constant":
        return rate
    passed = math.floor(epoch) if optimizer.stepped == "epoch" else epoch
    passed = max(passed - optimizer.warmup_epochs, 0)
    cosine = 0.5 * (1 + math.cos(math.pi * passed / (config.epochs - optimizer.warmup_epochs)))
    return rate * (optimizer.final_rate + (1 - optimizer.final_rate) * cosine)


def base_rate(config: TrainConfig, epoch: float) -> float:
    """Rate at `epoch` of what has no schedule but the warm-up."""
    rate = config.learning_rate * config.global_batch / 256
    warmup = config.optimizer.warmup_epochs
    return rate * epoch / warmup if epoch < warmup else rate


class StudentOptimizer:
    """The optimiser of a method's networks."""

    def __init__(self, config: TrainConfig, method: Method, device: torch.device) -> None:
        self._config = config
        self._is_fused = device.type == "cuda"
        self._optimizer = _build(config, method, self._is_fused)

    def step(self, epoch: float) -> float:
        """Follow the gradients at the rate of `epoch`, which is returned, and let go of them: CUDA
        graphs want their memory back before the next step.
        """
        rate, base = learning_rate(self._config, epoch), base_rate(self._config, epoch)
        groups = self._optimizer.param_groups
        for group in groups:
            group["lr"] = base if group.get("fixed_rate") else rate
        if (longest := self._config.optimizer.clip_norm) is not None:
            parameters = [part for group in groups for part in group["params"]]
            nn.utils.clip_grad_norm_(parameters, longest)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return rate

    def state_dict(self) -> dict[str, Any]:
        """For `load_state_dict`."""
        return self._optimizer.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned."""
        self._optimizer.load_state_dict(state)
        for group in self._optimizer.param_groups:  # of whatever device saved them
            group["fused"] = self._is_fused


def divergence_remedy(config: TrainConfig, step: int) -> str:
    """What to do about a loss that was not finite at `step`."""
    remedy = "lower train.learning_rate"
    if step >= _FIRST_STEPS:
        return remedy
    rate, warmup = base_rate(config, config.epochs), config.optimizer.warmup_epochs
    longer = (
        f"raise train.optimizer.warmup_epochs, now {warmup:g},"
        if warmup
        else "warm up with train.optimizer.warmup_epochs=10,"
    )
    return f"{longer} or {remedy}, which times global_batch / 256 is {rate:g}"


def _build(config: TrainConfig, method: Method, is_fused: bool) -> torch.optim.Optimizer:
    groups = method.parameter_groups()
    if config.optimizer.decay == "weights":
        groups = [part for group in groups for part in _split(group)]
    if config.optimizer.name == "adamw":
        return torch.optim.AdamW(groups, lr=0.0, weight_decay=config.weight_decay, fused=is_fused)
    kind: type[torch.optim.SGD] = torch.optim.SGD
    if config.optimizer.name == "lars":
        kind, groups = Lars, [_adapted(group, config.weight_decay) for group in groups]
    return kind(
        groups,
        lr=0.0,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        fused=is_fused,
    )


def _split(group: dict[str, Any]) -> list[dict[str, Any]]:
    """Weights, and what has one dimension: norms and biases, which have no decay."""
    weights = [part for part in group["params"] if part.ndim > 1]
    others = [part for part in group["params"] if part.ndim <= 1]
    spared = {**group, "params": others, "weight_decay": 0.0, "is_spared": True}
    parts = [{**group, "params": weights}, spared]
    return [part for part in parts if part["params"]]


def _adapted(group: dict[str, Any], weight_decay: float) -> dict[str, Any]:
    """`group` with adaptive rates, which weight decay is part of, unless it is spared both."""
    if "is_spared" in group:
        return group
    decay = group.get("weight_decay", weight_decay)
    return {**group, "weight_decay": 0.0, "adapted_decay": decay}

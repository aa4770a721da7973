"""A linear layer trained by hand, a sample at a time."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from torch import nn


def softmax_gradients(
    weight: np.ndarray, bias: np.ndarray, features: np.ndarray, classes: list[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Of the mean cross-entropy, one sample at a time in float64."""
    to_weight, to_bias = np.zeros_like(weight), np.zeros_like(bias)
    for sample, wanted in zip(features.astype(np.float64), classes, strict=True):
        logits = weight @ sample + bias
        odds = [math.exp(logit - max(logits)) for logit in logits]
        for index, odd in enumerate(odds):
            error = (odd / sum(odds) - (index == wanted)) / len(features)
            to_weight[index] += error * sample
            to_bias[index] += error
    return to_weight, to_bias


class ReferenceHead:
    """Sutskever's momentum as torch has it, and You et al.'s local rates, in float64."""

    def __init__(self, layer: nn.Linear, optimizer: Literal["sgd", "lars"]) -> None:
        self.parameters = [p.detach().double().numpy().copy() for p in (layer.weight, layer.bias)]
        self._momenta = [np.zeros_like(parameter) for parameter in self.parameters]
        self._is_lars = optimizer == "lars"

    def update(self, features: np.ndarray, classes: list[int], rate: float) -> None:
        gradients = softmax_gradients(self.parameters[0], self.parameters[1], features, classes)
        for parameter, momentum, gradient in zip(
            self.parameters, self._momenta, gradients, strict=True
        ):
            sizes = np.linalg.norm(parameter), np.linalg.norm(gradient)
            local = 0.001 * sizes[0] / sizes[1] if self._is_lars and all(sizes) else 1.0
            momentum *= 0.9
            momentum += local * gradient
            parameter -= rate * momentum

    def classify(self, features: np.ndarray) -> np.ndarray:
        weight, bias = self.parameters
        classes: np.ndarray = (features.astype(np.float64) @ weight.T + bias).argmax(1)
        return classes

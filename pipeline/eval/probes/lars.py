"""Layer-wise adaptive rates (LARS) for a plain SGD: You, Gitman and Ginsburg 2017, "Large batch
training of convolutional networks". Neighbour: `linear_sgd.py`, whose probe of STL-10 takes it.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

TRUST = 0.001
"""η of Algorithm 1."""


@torch.no_grad()
def adapt_gradients(parameters: Iterable[Tensor]) -> None:
    """Multiply the gradient of every parameter, in place, by its local rate λ = η ‖w‖ / ‖∇L(w)‖
    (You et al. 2017, Algorithm 1 without weight decay); torch's SGD with momentum does the rest.

    Weights and biases count as layers of their own, and a parameter or gradient that is all zeros
    has λ = 1: by the formula, a bias that starts at zero would never move. The learning rate γ
    stays outside the momentum, as torch has it; in Algorithm 1 it is inside, which differs only in
    the steps after a change of γ. All three as in the code that the paper's authors released.
    Nothing waits for the device.
    """
    for parameter in parameters:
        gradient = parameter.grad
        if gradient is None:
            raise ValueError("every parameter needs a gradient")
        size, slope = parameter.norm(), gradient.norm()
        rate = TRUST * size / slope
        gradient.mul_(torch.where((size > 0) & (slope > 0), rate, torch.ones_like(rate)))

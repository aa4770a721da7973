"""Layer-wise adaptive rates (LARS) for a plain SGD: You, Gitman and Ginsburg 2017, "Large batch
training of convolutional networks". Neighbours: the student's optimiser in `train/optimizer.py`,
and the linear probe of STL-10 in `eval/probes/linear_head.py`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

TRUST = 0.001
"""η of Algorithm 1."""


@torch.no_grad()
def adapt_gradients(parameters: Iterable[Tensor], weight_decay: float = 0.0) -> None:
    """Give the gradient of every parameter its weight decay, ∇L(w) + β w, and multiply it, in
    place, by its local rate λ = η ‖w‖ / ‖∇L(w) + β w‖; torch's SGD with momentum does the rest.

    Weights and biases count as layers of their own, and a parameter or gradient that is all zeros
    has λ = 1: by the formula, a bias that starts at zero would never move. The learning rate γ
    stays outside the momentum, as torch has it; in Algorithm 1 it is inside, which differs only in
    the steps after a change of γ. Algorithm 1 divides by ‖∇L(w)‖ + β ‖w‖. All four as in the code
    that the authors of VICReg (Bardes et al. 2022) released. Nothing waits for the device.
    """
    for parameter in parameters:
        gradient = parameter.grad
        if gradient is None:
            raise ValueError("every parameter needs a gradient")
        if weight_decay:
            gradient.add_(parameter, alpha=weight_decay)
        size, slope = parameter.norm(), gradient.norm()
        rate = TRUST * size / slope
        gradient.mul_(torch.where((size > 0) & (slope > 0), rate, torch.ones_like(rate)))


class Lars(torch.optim.SGD):
    """SGD with momentum on adapted gradients, which it changes. A group with `adapted_decay` has
    them adapted with that weight decay, one without is SGD's own.
    """

    def step(self, closure: Any = None) -> Any:
        """One step."""
        for group in self.param_groups:
            if "adapted_decay" in group:
                moved = [part for part in group["params"] if part.grad is not None]
                adapt_gradients(moved, group["adapted_decay"])
        return super().step(closure)

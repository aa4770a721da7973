"""The gradient penalties of a StyleGAN2's training.

Neighbour: `step.py` applies them every few steps.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def r1_penalty(logits: Tensor, images: Tensor) -> Tensor:
    """½ E[|∇_x D(x)|²] over real images (Mescheder et al. 2018, Eq. 9), without its weight γ: of
    `logits` [B, 1], with a graph, and `images` [B, C, R, R] that require a gradient. A scalar that
    can be differentiated again.
    """
    (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return gradient.square().sum((1, 2, 3)).mean() / 2


def path_lengths(image: Tensor, ws: Tensor, noise: Tensor) -> Tensor:
    """|J_wᵀ y| for random images y ~ N(0, I) / R (Karras et al. 2020, "Analyzing and improving",
    Eq. 4); its squared deviation from a running mean is the penalty.

    Args:
        image: [B, C, R, R], a function of `ws`.
        ws: [B, num_ws, w_dim]; the length is the root of the mean over the copies.
        noise: y R, [B, C, R, R] ~ N(0, I).

    Returns:
        [B] that can be differentiated again.
    """
    weighted = (image * noise).sum() / math.sqrt(image[0, 0].numel())
    (gradient,) = torch.autograd.grad(weighted, ws, create_graph=True)
    return gradient.square().sum(2).mean(1).sqrt()

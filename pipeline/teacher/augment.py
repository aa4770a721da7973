"""Adaptive discriminator augmentation (Karras et al. 2020, "Training GANs with limited data",
section 3, app. B).

Every transformation is applied to each image with probability p, differentiably, on real and
rendered images alike; `AdaController` moves p. Departures: rotation is limited to ±20° and there
are no flips or 90° turns, because a teacher may have to draw digits, and an R1 gradient is never
taken through the resampling.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

MAX_ROTATION = math.radians(20)
SCALE_STD = 0.2  # octaves
TRANSLATION_STD = 0.125  # share of the image
BRIGHTNESS_STD = 0.2
CONTRAST_STD = 0.5  # octaves


def augment(images: Tensor, p: float, generator: torch.Generator) -> Tensor:
    """Transform `images` [B, 3, R, R] in [-1, 1], each part of each image with probability `p`."""
    if p <= 0:
        return images
    batch = len(images)

    def gate(values: Tensor, identity: float) -> Tensor:
        chosen = torch.rand(batch, generator=generator) < p
        return torch.where(chosen, values, torch.full_like(values, identity)).to(images.device)

    def normal(std: float) -> Tensor:
        return torch.randn(batch, generator=generator) * std

    scale = gate(torch.exp2(normal(SCALE_STD)), 1)
    stretch = gate(torch.exp2(normal(SCALE_STD)), 1)
    angle = gate((torch.rand(batch, generator=generator) * 2 - 1) * MAX_ROTATION, 0)
    shift_x = gate(normal(TRANSLATION_STD), 0) * 2
    shift_y = gate(normal(TRANSLATION_STD), 0) * 2
    cos, sin = angle.cos(), angle.sin()
    rows = [
        cos * scale * stretch,
        -sin * scale,
        shift_x,
        sin * scale * stretch,
        cos * scale,
        shift_y,
    ]
    theta = torch.stack(rows, 1).reshape(batch, 2, 3)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    images = F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)

    brightness = gate(normal(BRIGHTNESS_STD), 0)
    contrast = gate(torch.exp2(normal(CONTRAST_STD)), 1)
    return (images + brightness[:, None, None, None]) * contrast[:, None, None, None]


class AdaController:
    """Moves p so that E[sign(D(real))] stays at `target`; p goes from 0 to 1 in `num_images` at
    most.
    """

    def __init__(self, target: float, num_images: int, p: float = 0.0) -> None:
        self.p = p
        self.overfitting = 0.0
        self._target = target
        self._num_images = num_images

    def update(self, real_logits: Tensor) -> None:
        """Account for one batch of logits [B, 1] of real images."""
        self.overfitting += 0.1 * (real_logits.sign().mean().item() - self.overfitting)
        step = len(real_logits) / self._num_images
        direction = 1 if self.overfitting > self._target else -1
        self.p = min(max(self.p + direction * step, 0.0), 1.0)

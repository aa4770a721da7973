"""Draws of adaptive augmentation, of one part alone."""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.teacher.training.augment_draws import Draws, draw_colour, draw_geometry

R = 16


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def geometry(part: str, p: float = 1.0, batch: int = 4000) -> Tensor:
    return draw_geometry(Draws(batch, p, generator()), R, [part])


def colour(part: str, p: float = 1.0, batch: int = 4000) -> Tensor:
    return draw_colour(Draws(batch, p, generator()), [part])


def share(claim: Tensor) -> float:
    return claim.float().mean().item()

"""Somebody's own generator, a teacher of a kind the project has never seen.

Tests copy this file into a package of their own; it imports nothing of the project.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class Upscale(nn.Module):
    """Twice the side; its first output is the map, the second is for nobody."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose2d(width, width, 4, 2, 1)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> tuple[Tensor, str]:
        return self.norm(self.conv(x)).relu(), "spare"


class OwnGenerator(nn.Module):
    """Latents of 6 numbers, and labels if there are classes -> images."""

    def __init__(self, width: int, num_classes: int, side: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.width = width
        self.side = side
        self.start = nn.Linear(6 + num_classes, width * 16)
        self.first = Upscale(width)
        self.second = Upscale(width)
        self.image = nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        inputs = z if labels is None else torch.cat([z, labels], 1)
        x = self.start(inputs).reshape(len(z), self.width, 4, 4)
        for block in (self.first, self.second):
            x, _ = block(x)
        return self.image(nn.functional.interpolate(x, size=self.side)).tanh()


def build(width: int = 4, num_classes: int = 0, side: int = 16) -> nn.Module:
    return OwnGenerator(width, num_classes, side)


def build_random(seed: int = 0, **arguments: int) -> nn.Module:
    """With weights and statistics of its own, every one of which acts."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = build(**arguments)
        for name, buffer in module.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_()
            elif name.endswith("running_var"):
                buffer.uniform_(0.5, 2)
    return module.eval()


def build_nothing(**_arguments: Any) -> dict[str, str]:
    return {"not": "a module"}


def build_with_a_condition(**_arguments: Any) -> nn.Module:
    raise ValueError("the moon is not full")


NOT_CALLABLE = 3

"""What adaptive augmentation does to each image, drawn on the CPU (Karras et al. 2020, "Training
GANs with limited data", app. B).

Every transformation is applied to each image with probability p. There are two pipelines. "bgc" is
the paper's default: blitting, geometry and colour. "upright" is for a teacher that may have to draw
digits: rotation within ±20°, no flips, no 90° turns, brightness and contrast as the only colour.

Neighbours: `augment.py` does it to the images, `step_draws.py` draws for all images of a step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

MAX_ROTATION = math.radians(20)  # "upright"
MAX_INTEGER_TRANSLATION = 0.125  # share of the image
SCALE_STD = 0.2  # octaves
TRANSLATION_STD = 0.125  # share of the image
BRIGHTNESS_STD = 0.2
CONTRAST_STD = 0.5  # octaves
SATURATION_STD = 1.0  # octaves

Pipe = Literal["bgc", "upright"]


@dataclass(frozen=True)
class Draws:
    """Random values of a batch, one per image, each replaced by its identity with probability
    1 - p.

    The generator is on the CPU and so are all values, [B] float32; how many numbers are drawn does
    not depend on `p`.
    """

    batch: int
    p: float
    generator: torch.Generator

    def uniform(self, limit: float) -> Tensor:
        """Uniform in ±limit."""
        return (
            torch.rand(self.batch, generator=self.generator, dtype=torch.float32) * 2 - 1
        ) * limit

    def normal(self, std: float) -> Tensor:
        """Normal around 0."""
        return torch.randn(self.batch, generator=self.generator, dtype=torch.float32) * std

    def choice(self, count: int) -> Tensor:
        """One of 0, 1, ..., count - 1."""
        return torch.randint(count, (self.batch,), generator=self.generator).to(torch.float32)

    def gate(self, *values: Tensor, identity: float, p: float | None = None) -> list[Tensor]:
        """Each image's `values`, or `identity` for all of them where the image is not chosen."""
        chosen = torch.rand(self.batch, generator=self.generator, dtype=torch.float32) < (
            self.p if p is None else p
        )
        return [torch.where(chosen, value, identity) for value in values]


NUM_VALUES = 18
"""Per image: two rows of three of its geometry, then three rows of four of its colour."""


def draw_augmentation(
    pipe: Pipe, batch: int, resolution: int, p: float, generator: torch.Generator
) -> Tensor:
    """[batch, NUM_VALUES] float32 on the CPU, for `augment`.

    Args:
        pipe: which transformations.
        batch: images; they are independent of one another.
        resolution: of the images, in pixels.
        p: probability of each transformation, in [0, 1].
        generator: on the CPU; how many numbers are drawn depends on `pipe` and `batch` only.

    Raises:
        ValueError: for another pipe.
    """
    if pipe not in PIPES:
        raise ValueError(f"pipe is {pipe!r}, not bgc or upright")
    geometry_parts, colour_parts = PIPES[pipe]
    draws = Draws(batch, p, generator)
    with torch.autocast("cpu", enabled=False):
        geometry = draw_geometry(draws, resolution, geometry_parts)
        colour = draw_colour(draws, colour_parts)
    return torch.cat([geometry[:, :2].flatten(1), colour[:, :3].flatten(1)], 1)


def draw_geometry(draws: Draws, resolution: int, parts: Sequence[str] | None = None) -> Tensor:
    """Where each output position is read from: homogeneous matrices [B, 3, 3] float32 on the CPU,
    from output to input, both in [-1, 1] from edge to edge.

    `parts` are keys of `GEOMETRY`, by default those of "bgc".
    """
    matrix = torch.eye(3, dtype=torch.float32).expand(draws.batch, 3, 3)
    for name in PIPES["bgc"][0] if parts is None else parts:
        matrix = matrix @ GEOMETRY[name](draws, resolution)
    return matrix


def draw_colour(draws: Draws, parts: Sequence[str] | None = None) -> Tensor:
    """What happens to each pixel (r, g, b, 1) in [-1, 1]: matrices [B, 4, 4] float32 on the CPU.

    `parts` are keys of `COLOUR`, by default those of "bgc".
    """
    matrix = torch.eye(4, dtype=torch.float32).expand(draws.batch, 4, 4)
    for name in COLOUR if parts is None else parts:
        matrix = COLOUR[name](draws) @ matrix
    return matrix


def _matrix(rows: Sequence[Sequence[Tensor | float]]) -> Tensor:
    """[B, n, n] from rows of entries that are [B] or one number for all images."""
    like = next(entry for row in rows for entry in row if isinstance(entry, Tensor))
    full = [[torch.zeros_like(like) + entry for entry in row] for row in rows]
    return torch.stack([torch.stack(row, -1) for row in full], -2)


def _scaling(x: Tensor, y: Tensor) -> Tensor:
    return _matrix([[x, 0, 0], [0, y, 0], [0, 0, 1]])


def _translation(x: Tensor, y: Tensor) -> Tensor:
    return _matrix([[1, 0, x], [0, 1, y], [0, 0, 1]])


def _rotation(angle: Tensor) -> Tensor:
    cos, sin = angle.cos(), angle.sin()
    return _matrix([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])


def _flip(draws: Draws, resolution: int) -> Tensor:
    (sign,) = draws.gate(1 - 2 * draws.choice(2), identity=1)
    return _scaling(sign, torch.ones_like(sign))


def _turn(draws: Draws, resolution: int) -> Tensor:
    (angle,) = draws.gate(draws.choice(4) * (math.pi / 2), identity=0)
    return _rotation(angle)


def _shift_whole_pixels(draws: Draws, resolution: int) -> Tensor:
    limit = MAX_INTEGER_TRANSLATION
    x, y = draws.gate(draws.uniform(limit), draws.uniform(limit), identity=0)
    return _translation(*((shift * resolution).round() * (2 / resolution) for shift in (x, y)))


def _scale(draws: Draws, resolution: int) -> Tensor:
    (scale,) = draws.gate(torch.exp2(draws.normal(SCALE_STD)), identity=1)
    return _scaling(scale, scale)


def _rotate(draws: Draws, resolution: int) -> Tensor:
    # before and after the stretch: p is the probability that at least one of the two happens
    p = 1 - math.sqrt(1 - draws.p)
    (angle,) = draws.gate(draws.uniform(math.pi), identity=0, p=p)
    return _rotation(angle)


def _stretch(draws: Draws, resolution: int) -> Tensor:
    (stretch,) = draws.gate(torch.exp2(draws.normal(SCALE_STD)), identity=1)
    return _scaling(stretch, 1 / stretch)


def _shift(draws: Draws, resolution: int) -> Tensor:
    x, y = draws.gate(draws.normal(TRANSLATION_STD), draws.normal(TRANSLATION_STD), identity=0)
    return _translation(2 * x, 2 * y)


def _upright(draws: Draws, resolution: int) -> Tensor:
    (scale,) = draws.gate(torch.exp2(draws.normal(SCALE_STD)), identity=1)
    (stretch,) = draws.gate(torch.exp2(draws.normal(SCALE_STD)), identity=1)
    (angle,) = draws.gate(draws.uniform(MAX_ROTATION), identity=0)
    (x,) = draws.gate(draws.normal(TRANSLATION_STD), identity=0)
    (y,) = draws.gate(draws.normal(TRANSLATION_STD), identity=0)
    return _translation(2 * x, 2 * y) @ _rotation(angle) @ _scaling(scale * stretch, scale)


def _brightness(draws: Draws) -> Tensor:
    (b,) = draws.gate(draws.normal(BRIGHTNESS_STD), identity=0)
    return _matrix([[1, 0, 0, b], [0, 1, 0, b], [0, 0, 1, b], [0, 0, 0, 1]])


def _contrast(draws: Draws) -> Tensor:
    (c,) = draws.gate(torch.exp2(draws.normal(CONTRAST_STD)), identity=1)
    return _matrix([[c, 0, 0, 0], [0, c, 0, 0], [0, 0, c, 0], [0, 0, 0, 1]])


_LUMA = torch.zeros(4, 4)  # projection onto the grey axis
_LUMA[:3, :3] = 1 / 3
_CHROMA = torch.diag(torch.tensor([1.0, 1, 1, 0])) - _LUMA  # and onto the plane across it
_QUARTER = torch.zeros(4, 4)  # a quarter turn within that plane
_QUARTER[:3, :3] = torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / math.sqrt(3)
_ONE = torch.diag(torch.tensor([0.0, 0, 0, 1]))


def _along_grey(luma: Tensor, chroma: Tensor, quarter: Tensor) -> Tensor:
    parts = ((_LUMA, luma), (_CHROMA, chroma), (_QUARTER, quarter))
    return _ONE + sum(matrix * factor[:, None, None] for matrix, factor in parts)


def _luma_flip(draws: Draws) -> Tensor:
    (sign,) = draws.gate(1 - 2 * draws.choice(2), identity=1)
    return _along_grey(sign, torch.ones_like(sign), torch.zeros_like(sign))


def _hue(draws: Draws) -> Tensor:
    (angle,) = draws.gate(draws.uniform(math.pi), identity=0)
    return _along_grey(torch.ones_like(angle), angle.cos(), angle.sin())


def _saturation(draws: Draws) -> Tensor:
    (s,) = draws.gate(torch.exp2(draws.normal(SATURATION_STD)), identity=1)
    return _along_grey(torch.ones_like(s), s, torch.zeros_like(s))


GEOMETRY: dict[str, Callable[[Draws, int], Tensor]] = {
    "flip": _flip,
    "turn": _turn,
    "shift_whole_pixels": _shift_whole_pixels,
    "scale": _scale,
    "rotate": _rotate,
    "stretch": _stretch,
    "rotate_again": _rotate,
    "shift": _shift,
    "upright": _upright,
}
"""The geometric parts; all their distributions are those of their inverses, so each draws its
matrix from output to input."""

COLOUR: dict[str, Callable[[Draws], Tensor]] = {
    "brightness": _brightness,
    "contrast": _contrast,
    "luma_flip": _luma_flip,
    "hue": _hue,
    "saturation": _saturation,
}
"""The colour parts."""

PIPES: dict[str, tuple[Sequence[str], Sequence[str]]] = {
    "bgc": ([name for name in GEOMETRY if name != "upright"], list(COLOUR)),
    "upright": (["upright"], ["brightness", "contrast"]),
}
"""Geometric and colour parts of each pipeline, those of "bgc" in the paper's order."""

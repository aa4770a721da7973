"""Adaptive discriminator augmentation (Karras et al. 2020, "Training GANs with limited data",
section 3, app. B).

Every transformation is applied to each image with probability p, differentiably, on real and
rendered images alike; `AdaController` moves p. There are two pipelines. "bgc" is the paper's
default: blitting, geometry and colour. "upright" is for a teacher that may have to draw digits:
rotation within ±20°, no flips, no 90° turns, brightness and contrast as the only colour.

Departures: one bilinear resampling without the paper's 2x upsampling and wavelet filters, so strong
minification aliases; the border is mirrored about the image's edge, however often the warp asks for
it, and not padded by the mirrored image once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.teacher.resample import resample

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


def augment(
    images: Tensor,
    p: float,
    generator: torch.Generator,
    pipe: Pipe = "upright",
    *,
    global_batch: int | None = None,
    part: slice = slice(None),
) -> Tensor:
    """`images` with each transformation of `pipe` applied to each image with probability `p`.

    Geometry and colour are computed in float32 whatever the images' type and any autocast; images
    are returned as they are for p = 0. Differentiable in the images any number of times.

    Args:
        images: [B, C, R, R] in [-1, 1], any floating type; C is 1 or 3 for "bgc". A grey image gets
            what the colour transformations do to luma.
        p: in [0, 1].
        generator: on the CPU; draws depend on the global batch, R, p and `pipe` only.
        pipe: which transformations.
        global_batch: images of all workers, for which the values are drawn; B if unset.
        part: the rows of it that `images` are.

    Returns:
        [B, C, R, R] of the images' type; colour can leave [-1, 1].

    Raises:
        ValueError: for another pipe or, with "bgc", another number of channels.
    """
    if pipe not in ("bgc", "upright"):
        raise ValueError(f"pipe is {pipe!r}, not bgc or upright")
    if p <= 0:
        return images
    batch = len(images) if global_batch is None else global_batch
    with torch.autocast(images.device.type, enabled=False):
        if pipe == "upright":
            found = _augment_upright(images.float(), p, generator, batch, part)
        else:
            draws = Draws(batch, p, generator)
            geometry = draw_geometry(draws, images.shape[-1])[part]
            colour = draw_colour(draws)[part]
            found = apply_colour(apply_geometry(images.float(), geometry), colour)
    return found.to(images.dtype)


def _augment_upright(
    images: Tensor, p: float, generator: torch.Generator, batch: int, part: slice
) -> Tensor:
    def gate(values: Tensor, identity: float) -> Tensor:
        chosen = torch.rand(batch, generator=generator, dtype=torch.float32) < p
        gated = torch.where(chosen, values, torch.full_like(values, identity))
        return gated[part].to(images.device)

    def normal(std: float) -> Tensor:
        return torch.randn(batch, generator=generator, dtype=torch.float32) * std

    scale = gate(torch.exp2(normal(SCALE_STD)), 1)
    stretch = gate(torch.exp2(normal(SCALE_STD)), 1)
    angle = gate(
        (torch.rand(batch, generator=generator, dtype=torch.float32) * 2 - 1) * MAX_ROTATION, 0
    )
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
    images = apply_geometry(images, torch.stack(rows, 1).reshape(-1, 2, 3))
    brightness = gate(normal(BRIGHTNESS_STD), 0)
    contrast = gate(torch.exp2(normal(CONTRAST_STD)), 1)
    return (images + brightness[:, None, None, None]) * contrast[:, None, None, None]


def draw_geometry(draws: Draws, resolution: int, parts: Sequence[str] | None = None) -> Tensor:
    """Where each output position is read from: homogeneous matrices [B, 3, 3] float32 on the CPU,
    from output to input, both in [-1, 1] from edge to edge.

    `parts` are keys of `GEOMETRY`; all of them when left out.
    """
    matrix = torch.eye(3, dtype=torch.float32).expand(draws.batch, 3, 3)
    for name in GEOMETRY if parts is None else parts:
        matrix = matrix @ GEOMETRY[name](draws, resolution)
    return matrix


def draw_colour(draws: Draws, parts: Sequence[str] | None = None) -> Tensor:
    """What happens to each pixel (r, g, b, 1) in [-1, 1]: matrices [B, 4, 4] float32 on the CPU.

    `parts` are keys of `COLOUR`; all of them when left out.
    """
    matrix = torch.eye(4, dtype=torch.float32).expand(draws.batch, 4, 4)
    for name in COLOUR if parts is None else parts:
        matrix = COLOUR[name](draws) @ matrix
    return matrix


def apply_geometry(images: Tensor, geometry: Tensor) -> Tensor:
    """float32 `images` [B, C, R, R] resampled by `geometry` [B, 2 or 3, 3] on any device."""
    theta = geometry[:, :2].to(images.device)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return resample(images, grid)


def apply_colour(images: Tensor, colour: Tensor) -> Tensor:
    """float32 `images` [B, 1 or 3, R, R] through `colour` [B, 4, 4] on any device."""
    colour = colour[:, :3].to(images.device)  # [B, 3, 4]
    if images.shape[1] == 1:  # no part leaves the grey axis: its three rows agree
        gain, offset = colour[:, :, :3].sum(2).mean(1), colour[:, :, 3].mean(1)
        return images * gain[:, None, None, None] + offset[:, None, None, None]
    if images.shape[1] != 3:
        raise ValueError(f"images have {images.shape[1]} channels, not 1 or 3")
    pixels = torch.baddbmm(colour[:, :, 3:], colour[:, :, :3], images.flatten(2))
    return pixels.reshape(images.shape)


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
}
"""The geometric parts of "bgc" in the paper's order; all their distributions are those of their
inverses, so each draws its matrix from output to input."""

COLOUR: dict[str, Callable[[Draws], Tensor]] = {
    "brightness": _brightness,
    "contrast": _contrast,
    "luma_flip": _luma_flip,
    "hue": _hue,
    "saturation": _saturation,
}
"""The colour parts of "bgc" in the paper's order."""

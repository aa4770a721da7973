"""Random views, drawn per sample and computed for a whole batch on its device (Yang et al. 2022,
Eq. 8).

The operations are torchvision's `RandomResizedCrop`, `RandomRotation`, `RandomHorizontalFlip`,
`ColorJitter`, `RandomGrayscale` and `GaussianBlur`. Crop, rotation and flip are one resampling of
the stored image (`crops.py`); colours and blur act at the size of the views. `draw_views` draws the
parameters of the *global* batch on the CPU; a worker keeps its rows, so views do not depend on the
number of workers. `make_views` is for CPUs; `masked_views.py` computes the same on a GPU.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.config.augment import AugmentConfig
from pipeline.student.crops import cut, cut_all

LUMA = (0.2989, 0.587, 0.114)
"""Shares of red, green and blue in the luma."""


@dataclass(frozen=True)
class ViewParameters:
    """Parameters of B views, float32 [B] unless said."""

    theta: Tensor
    """[B, 2, 3], for `F.affine_grid`: output to input coordinates of crop, rotation and flip."""
    factors: Tensor
    """[B, 4]: brightness, contrast and saturation factors, hue shift."""
    order: Tensor
    """[B, 4] int64: a permutation of the four jitter operations."""
    is_grey: Tensor
    """bool: converted to grey."""
    sigma: Tensor
    """Blur in pixels, 0 for none."""

    @property
    def tensors(self) -> list[Tensor]:
        """All of them, as `ViewParameters(*tensors)` takes them."""
        return [getattr(self, field.name) for field in fields(self)]

    def rows(self, start: int, stop: int) -> ViewParameters:
        """The parameters of some of the views."""
        return ViewParameters(*(tensor[start:stop] for tensor in self.tensors))

    @staticmethod
    def concatenate(parts: Sequence[ViewParameters]) -> ViewParameters:
        """The parameters of all views of `parts`, in their order."""
        columns = zip(*(part.tensors for part in parts), strict=True)
        return ViewParameters(*(torch.cat(column) for column in columns))

    def repeated(self, count: int) -> ViewParameters:
        """Those of a single view, for `count` images."""
        return ViewParameters(*(t.expand(count, *t.shape[1:]) for t in self.tensors))


def draw_views(config: AugmentConfig, batch: int, generator: torch.Generator) -> ViewParameters:
    """Draw the parameters of `batch` independent views with a CPU `generator`."""

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(batch, generator=generator)

    def happens(p: float) -> Tensor:
        return torch.rand(batch, generator=generator) < p

    jittered = happens(config.jitter_p)
    strengths = (config.brightness, config.contrast, config.saturation)
    factors = torch.stack(
        [torch.where(jittered, uniform(1 - s, 1 + s), torch.ones(batch)) for s in strengths]
        + [torch.where(jittered, uniform(-config.hue, config.hue), torch.zeros(batch))],
        1,
    )
    return ViewParameters(
        theta=_draw_theta(config, batch, generator),
        factors=factors,
        order=torch.rand(batch, 4, generator=generator).argsort(1),
        is_grey=happens(config.grayscale_p),
        sigma=torch.where(happens(config.blur_p), uniform(*config.blur_sigma), torch.zeros(batch)),
    )


def _draw_theta(config: AugmentConfig, batch: int, generator: torch.Generator) -> Tensor:
    """[B, 2, 3]; area and log aspect ratio are uniform, and crops that stick out rejected."""
    tries = 10

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(batch, *shape, generator=generator)

    area = uniform(*config.crop_scale, tries)
    ratio = uniform(math.log(config.crop_ratio[0]), math.log(config.crop_ratio[1]), tries).exp()
    width, height = (area * ratio).sqrt(), (area / ratio).sqrt()  # shares of the side
    fits = (width <= 1) & (height <= 1)
    first = fits.int().argmax(1, keepdim=True)
    has_fit = fits.any(1)
    width = torch.where(has_fit, width.gather(1, first)[:, 0], torch.ones(batch))
    height = torch.where(has_fit, height.gather(1, first)[:, 0], torch.ones(batch))
    centre_x = (1 - width) * (2 * torch.rand(batch, generator=generator) - 1)
    centre_y = (1 - height) * (2 * torch.rand(batch, generator=generator) - 1)
    angle = uniform(-config.rotation_deg, config.rotation_deg) * (math.pi / 180)
    flip = torch.where(torch.rand(batch, generator=generator) < config.flip_p, -1.0, 1.0)
    cos, sin = angle.cos(), angle.sin()
    rows = [width * cos * flip, -height * sin, centre_x, width * sin * flip, height * cos, centre_y]
    return torch.stack(rows, 1).reshape(batch, 2, 3)


def make_views(images: Sequence[Tensor], views: ViewParameters, side: int) -> Tensor:
    """Apply `views` to `images`, which stay as they are, all on the CPU.

    Args:
        images: [n_k, 3, S_k, S_k] each, uint8 or in [0, 1].
        views: of all of them, end to end.
        side: of the views.

    Returns:
        [B, 3, side, side] float32 in [0, 1].
    """
    pixels = cut_all(images, views.theta, side, cut)
    _jitter(pixels, views.factors, views.order)
    _turn_grey(pixels, views.is_grey)
    return blur(pixels, views.sigma) if views.sigma.any() else pixels


def _jitter(images: Tensor, factors: Tensor, order: Tensor) -> None:
    """The four colour operations in place, each sample in its own order. Rows that an operation
    would leave as they are stay out of it.
    """
    is_active = (factors != torch.tensor(_NEUTRAL)).gather(1, order)
    if not is_active.any():
        return
    first_active = (~is_active).int().argsort(dim=1, stable=True)  # no slot for what does nothing
    is_active, order = is_active.gather(1, first_active), order.gather(1, first_active)
    order = torch.where(is_active, order, len(_OPERATIONS))  # [B, 4], or that: nothing
    counts = [slot.bincount(minlength=len(_OPERATIONS) + 1).tolist() for slot in order.T]
    rows_by_operation = order.argsort(0).T  # [4, B]
    for slot_counts, slot_rows in zip(counts, rows_by_operation, strict=True):
        chosen = slot_rows.split(slot_counts)
        for index, operation in enumerate(_OPERATIONS):
            if slot_counts[index]:
                rows = chosen[index]
                factor = factors[rows, index, None, None, None]
                images.index_copy_(0, rows, operation(images.index_select(0, rows), factor))


def _turn_grey(images: Tensor, is_grey: Tensor) -> None:
    """In place, the rows that `is_grey` [B] names."""
    if is_grey.any():
        rows = is_grey.nonzero()[:, 0]
        grey = _luma(images.index_select(0, rows))
        images.index_copy_(0, rows, grey.expand(-1, images.shape[1], -1, -1))


def _luma(images: Tensor) -> Tensor:
    red, green, blue = images.chunk(3, 1)
    return (red * LUMA[0]).add_(green, alpha=LUMA[1]).add_(blue, alpha=LUMA[2])


# The operations take `images` [b, 3, R, R], which they may overwrite, and a `factor` [b, 1, 1, 1].


def _brightness(images: Tensor, factor: Tensor) -> Tensor:
    return images.mul_(factor).clamp_(0, 1)


def _contrast(images: Tensor, factor: Tensor) -> Tensor:
    return _blend(images, _luma(images.mean((2, 3), keepdim=True)), factor)


def _saturation(images: Tensor, factor: Tensor) -> Tensor:
    return _blend(images, _luma(images), factor)


def _blend(images: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    return images.mul_(factor).add_(other * (1 - factor)).clamp_(0, 1)


def _shift_hue(images: Tensor, shift: Tensor) -> Tensor:
    """Turn the hue by `shift` in [-0.5, 0.5], through HSV (Smith 1978); without `where`, comparison
    and `remainder`, which took a CPU longer than all the rest.
    """
    red, green, blue = images.chunk(3, 1)
    larger, smaller = torch.maximum(green, blue), torch.minimum(green, blue)
    high, low = torch.maximum(red, larger), torch.minimum(red, smaller)
    chroma = high - low
    # the hue is |primary + ...| in sixths of the circle: 0 or -6 for red, -2 for green, 4 for blue
    is_bluish = (blue - green).sign_().clamp_min_(0)
    is_not_red = (larger - red).sign_().clamp_min_(0)
    primary = is_not_red.mul_(is_bluish * 12 - 2).sub_(is_bluish, alpha=6)
    hue = torch.minimum(red, larger).sub_(smaller).div_(chroma.clamp_min(1e-12))
    turn = hue.add_(primary).abs_().div_(6).add_(shift)
    hue = turn.sub_(turn.floor()).mul_(6)  # [b, 1, R, R] in [0, 6]
    share = torch.cat([hue - 3, hue - 2, hue - 4], 1).abs_()
    share[:, :1].sub_(1)
    share[:, 1:].neg_().add_(2)
    return share.clamp_(0, 1).mul_(chroma).add_(low)


_OPERATIONS = (_brightness, _contrast, _saturation, _shift_hue)
_NEUTRAL = (1.0, 1.0, 1.0, 0.0)


def blur(images: Tensor, sigma: Tensor) -> Tensor:
    """`images` [B, 3, R, R] through a separable Gaussian of `sigma` [B] pixels each, 0 for none;
    the kernel spans a tenth of the side but at least 3 pixels, as SimCLR's.
    """
    batch, channels, side, _ = images.shape
    radius = max(1, side // 20)
    offsets = torch.arange(-radius, radius + 1, device=images.device, dtype=images.dtype)
    weights = torch.exp(-offsets.square() / (2 * sigma.clamp_min(1e-3)[:, None].square()))
    weights = (weights / weights.sum(1, keepdim=True)).repeat_interleave(channels, 0)  # [B C, K]
    flat = F.pad(images.reshape(1, batch * channels, side, side), [radius] * 4, mode="reflect")
    flat = F.conv2d(flat, weights[:, None, :, None], groups=batch * channels)
    flat = F.conv2d(flat, weights[:, None, None, :], groups=batch * channels)
    return flat.reshape(images.shape)

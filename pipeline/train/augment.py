"""Random views, drawn per sample and computed for a whole batch on its device (Yang et al. 2022,
Eq. 8).

The operations are torchvision's `RandomResizedCrop`, `RandomRotation`, `RandomHorizontalFlip`,
`ColorJitter`, `RandomGrayscale` and `GaussianBlur`. Crop, rotation and flip are one affine
resampling, so a view is interpolated once. `draw_views` draws the parameters of the *global* batch
on the CPU; a worker keeps its rows, so views do not depend on the number of workers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.train_config import AugmentConfig

_LUMA = (0.2989, 0.587, 0.114)


@dataclass(frozen=True)
class ViewParameters:
    """Parameters of B views, float32 [B] unless said."""

    theta: Tensor
    """[B, 2, 3]: output to input coordinates of crop, rotation and flip, as `F.affine_grid` takes
    them.
    """
    factors: Tensor
    """[B, 4]: brightness, contrast and saturation factors, hue shift."""
    order: Tensor
    """[B, 4] int64: a permutation of the four jitter operations."""
    is_grey: Tensor
    """bool: converted to grey."""
    sigma: Tensor
    """Blur in pixels, 0 for none."""

    def rows(self, start: int, stop: int) -> ViewParameters:
        """The parameters of some of the views."""
        return ViewParameters(*(getattr(self, field.name)[start:stop] for field in fields(self)))

    def repeated(self, count: int) -> ViewParameters:
        """Those of a single view, for `count` images."""
        values = (getattr(self, field.name) for field in fields(self))
        return ViewParameters(*(value.expand(count, *value.shape[1:]) for value in values))


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
    """[B, 2, 3]; area and log aspect ratio uniform as in `RandomResizedCrop`, which rejects crops
    that stick out.
    """
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


def make_views(images: Tensor, views: ViewParameters) -> Tensor:
    """Apply `views` to `images` [B, 3, R, R] in [0, 1]; same shape and range."""
    device = images.device
    grid = F.affine_grid(views.theta.to(device), list(images.shape), align_corners=False)
    images = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    images = _jitter(images, views.factors, views.order)
    grey = views.is_grey.to(device)[:, None, None, None]
    images = torch.where(grey, _luma(images), images)
    return _blur(images, views.sigma.to(device)) if views.sigma.any() else images


def _jitter(images: Tensor, factors: Tensor, order: Tensor) -> Tensor:
    """The four colour operations, each sample in its own order.

    `factors` and `order` are on the CPU: which rows an operation takes is decided without waiting
    for the device.
    """
    operations = (_brightness, _contrast, _saturation, _shift_hue)
    active = (factors != torch.tensor([1.0, 1.0, 1.0, 0.0])).any(0).tolist()
    if sum(active) == 1:  # nothing to order
        order = torch.full_like(order[:, :1], active.index(True))
    for slot in range(order.shape[1] if any(active) else 0):
        for name, operation in enumerate(operations):
            if active[name]:
                chosen = (order[:, slot] == name).nonzero()[:, 0]
                rows = chosen.to(images.device)
                factor = factors[chosen, name].to(images.device)
                images = images.index_copy(0, rows, operation(images[rows], factor))
    return images


def _blend(images: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    factor = factor[:, None, None, None]
    return (images * factor + other * (1 - factor)).clamp(0, 1)


def _luma(images: Tensor) -> Tensor:
    weights = torch.tensor(_LUMA, device=images.device)[:, None, None]
    return (images * weights).sum(1, keepdim=True)


def _brightness(images: Tensor, factor: Tensor) -> Tensor:
    return _blend(images, torch.zeros([], device=images.device), factor)


def _contrast(images: Tensor, factor: Tensor) -> Tensor:
    return _blend(images, _luma(images).mean((1, 2, 3), keepdim=True), factor)


def _saturation(images: Tensor, factor: Tensor) -> Tensor:
    return _blend(images, _luma(images), factor)


def _shift_hue(images: Tensor, shift: Tensor) -> Tensor:
    """Turn the hue by `shift` in [-0.5, 0.5], through HSV (Smith 1978)."""
    high, low = images.amax(1), images.amin(1)
    chroma = high - low
    safe = torch.where(chroma > 0, chroma, torch.ones_like(chroma))
    red, green, blue = images.unbind(1)
    hue = torch.where(
        high == red,
        (green - blue) / safe,
        torch.where(high == green, 2 + (blue - red) / safe, 4 + (red - green) / safe),
    )
    hue = hue + 6 * shift[:, None, None]  # [B, R, R], in sixths of the circle
    offsets = torch.tensor([5.0, 3.0, 1.0], device=images.device)[:, None, None]
    position = (offsets + hue[:, None]) % 6
    return high[:, None] - chroma[:, None] * torch.minimum(position, 4 - position).clamp(0, 1)


def _blur(images: Tensor, sigma: Tensor) -> Tensor:
    """Separable Gaussian, per sample; the kernel spans a tenth of the side but at least 3 pixels,
    as SimCLR's.
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

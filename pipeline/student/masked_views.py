"""The views of `views.py` in a form for GPUs: every sample goes through every operation, and
masks select.

There is no branch, no list of rows and no size that depends on what was drawn, so nothing waits for
the device and torch.compile makes a handful of kernels of the whole. A CPU, which pays for
arithmetic rather than for calls, keeps to `views.make_views`. Colours are three planes [B, R, R]:
what has one shape is fused. Neighbours: `train/step_views.py`, `eval/probes/labelled_views.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from pipeline.config.augment import AugmentConfig
from pipeline.student.crops import cut_all, cut_masked
from pipeline.student.views import LUMA, ViewParameters, blur, make_views

Planes = tuple[Tensor, ...]
"""Red, green and blue, [B, R, R] each."""
_CONTRAST, _SATURATION, _HUE = 1, 2, 3  # in the order of `ViewParameters.factors`


def choose_views(
    config: AugmentConfig, device: torch.device, side: int
) -> Callable[[Sequence[Tensor], ViewParameters], Tensor]:
    """What makes views of `side` pixels on `device`: `make_views` or `make_masked_views`, of images
    and of parameters drawn for `config`, both there.
    """
    if device.type == "cpu":
        return partial(make_views, side=side)
    return partial(make_masked_views, config=config, side=side)


def make_masked_views(
    images: Sequence[Tensor], views: ViewParameters, config: AugmentConfig, side: int
) -> Tensor:
    """As `views.make_views`, but for rounding: within 2e-5.

    Args:
        images: [n_k, 3, S_k, S_k] each, uint8 or in [0, 1].
        views: on the device of `images`, drawn for `config`.
        config: parts that it switches off are not computed.
        side: of the views.
    """
    cut = partial(cut_masked, is_rotated=config.rotation_deg > 0)
    planes = cut_all(images, views.theta, side, cut).unbind(1)
    if config.jitter_p:
        for operation in views.order.unbind(1):
            factor = views.factors.gather(1, operation[:, None])
            planes = _jitter(planes, operation[:, None, None], factor[:, :, None])
    if config.grayscale_p:
        grey, is_grey = _luma(planes), views.is_grey[:, None, None]
        planes = tuple(torch.where(is_grey, grey, plane) for plane in planes)
    pixels = torch.stack(planes, 1)
    return blur(pixels, views.sigma) if config.blur_p else pixels


def _jitter(planes: Planes, operation: Tensor, factor: Tensor) -> Planes:
    """One colour operation of each sample: `operation` [B, 1, 1] says which, with `factor`
    [B, 1, 1]; neutral factors change nothing.

    Brightness, contrast and saturation blend with black, with the mean luma, and with the luma.
    """
    luma = _luma(planes)
    mean = luma.mean((1, 2), keepdim=True)
    other = torch.where(operation == _CONTRAST, mean, 0.0)
    other = torch.where(operation == _SATURATION, luma, other) * (1 - factor)
    is_hue, is_neutral = operation == _HUE, factor == 0
    turned = _shift_hue(planes, factor)
    blended = [(plane * factor + other).clamp(0, 1) for plane in planes]
    still = [torch.where(is_neutral, *pair) for pair in zip(planes, turned, strict=True)]
    return tuple(torch.where(is_hue, *pair) for pair in zip(still, blended, strict=True))


def _luma(planes: Planes) -> Tensor:
    red, green, blue = planes
    return red * LUMA[0] + green * LUMA[1] + blue * LUMA[2]


def _shift_hue(planes: Planes, shift: Tensor) -> Planes:
    """Turn the hue by `shift` in [-0.5, 0.5], through HSV (Smith 1978)."""
    red, green, blue = planes
    larger, smaller = torch.maximum(green, blue), torch.minimum(green, blue)
    low, chroma = (
        torch.minimum(red, smaller),
        torch.maximum(red, larger) - torch.minimum(red, smaller),
    )
    # the hue is |primary + ...| in sixths of the circle
    is_bluish = blue > green
    of_red, of_others = torch.where(is_bluish, -6.0, 0.0), torch.where(is_bluish, 4.0, -2.0)
    primary = torch.where(larger > red, of_others, of_red)
    hue = (torch.minimum(red, larger) - smaller) / chroma.clamp_min(1e-12)
    turn = (hue + primary).abs() / 6 + shift
    hue = (turn - turn.floor()) * 6  # [B, R, R] in [0, 6]
    shares = (hue - 3).abs() - 1, 2 - (hue - 2).abs(), 2 - (hue - 4).abs()
    return tuple(share.clamp(0, 1) * chroma + low for share in shares)

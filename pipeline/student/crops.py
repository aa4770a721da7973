"""Crop, rotation and flip of views, as one resampling of stored images of any size.

An image no larger than the view is interpolated bilinearly at the places that `theta` says, between
pixels. A larger one may be minified and is antialiased: as torchvision's `RandomResizedCrop` with
`antialias=True`, the box is cut at whole pixels and resized by a triangle filter, separably. A
rotated box of a larger image is turned upright first, at the stored size.

`cut` is for CPUs, `cut_masked` computes the same on a GPU, where nothing may depend on what was
drawn. Neighbours: `views.py` draws `theta`; it and `masked_views.py` have the colours.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

Cut = Callable[[Tensor, Tensor, int], Tensor]
"""`cut`, or the like."""
_Grid = Callable[[Tensor, int], Tensor]


def cut_all(images: Sequence[Tensor], theta: Tensor, side: int, cut: Cut) -> Tensor:
    """What `cut` makes of all `images`, [n_k, 3, S_k, S_k] each, end to end: [B, 3, side, side].
    Neighbours of one size are cut together.
    """
    groups: list[list[Tensor]] = []
    for part in images:
        if groups and groups[-1][0].shape[-1] == part.shape[-1]:
            groups[-1].append(part)
        else:
            groups.append([part])
    joined = [torch.cat(group) for group in groups]
    thetas = theta.split([len(part) for part in joined])
    views = [cut(*pair, side) for pair in zip(joined, thetas, strict=True)]
    return views[0] if len(views) == 1 else torch.cat(views)


def cut(images: Tensor, theta: Tensor, side: int) -> Tensor:
    """Views [B, 3, side, side] float32 in [0, 1], on the CPU.

    A pixel of a 64-px view, colours included, takes one core 19 ns of images of 64 px, 26 of 96 px
    and 47 of 256 px, which have 16 times as many pixels.

    Args:
        images: [B, 3, S, S], uint8 or in [0, 1].
        theta: [B, 2, 3], for `F.affine_grid`.
        side: of the views.
    """
    if images.shape[-1] <= side:
        return _interpolate(images, _grid_by_product(theta, side))
    if theta[:, 0, 1].any():
        images, theta = _turn_upright(images, theta, _grid_by_product)
    starts, lengths, is_flipped = find_boxes(theta, images.shape[-1])
    boxes = torch.cat([starts, lengths, is_flipped[:, None]], 1).int().tolist()
    views = torch.empty(len(images), images.shape[1], side, side)
    for image, view, (left, top, width, height, flip) in zip(images, views, boxes, strict=True):
        box = image[None, :, top : top + height, left : left + width].float()
        box = F.interpolate(box, (side, side), mode="bilinear", antialias=True)[0]
        view.copy_(box.flip(2) if flip else box)
    return views.div_(255) if images.dtype == torch.uint8 else views


def cut_masked(images: Tensor, theta: Tensor, side: int, *, is_rotated: bool) -> Tensor:
    """As `cut`, but for rounding, by as many taps for every pixel as the largest box wants;
    `is_rotated`: whether some views may be.
    """
    size = images.shape[-1]
    if size <= side:
        return _interpolate(images, _grid_by_element(theta, side))
    if is_rotated:
        images, theta = _turn_upright(images, theta, _grid_by_element)
    starts, lengths, is_flipped = find_boxes(theta, size)
    narrow = _resample(images, 3, side, starts[:, 0], lengths[:, 0], is_flipped)
    return _resample(narrow, 2, side, starts[:, 1], lengths[:, 1], torch.zeros_like(is_flipped))


def find_boxes(theta: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes of upright `theta` in whole pixels of images of side `size`: left and top [B, 2], width
    and height [B, 2], whether mirrored bool [B].
    """
    lengths = (theta.diagonal(dim1=1, dim2=2).abs() * size).round().clamp(1, size)
    starts = (((theta[:, :, 2] + 1) * size - lengths) / 2).round()
    return starts.clamp_min(0).minimum(size - lengths), lengths, theta[:, 0, 0] < 0


def _turn_upright(images: Tensor, theta: Tensor, make_grid: _Grid) -> tuple[Tensor, Tensor]:
    """Images in [0, 1] of the same size, turned about the centres of their boxes, which come to lie
    in the middle; and what is left of `theta`.
    """
    width, height = theta[:, :, :2].square().sum(1).sqrt().unbind(1)
    cos, sin = theta[:, 1, 1] / height, -theta[:, 0, 1] / height
    is_flipped = theta[:, 0, 0] * cos + theta[:, 1, 0] * sin < 0
    turn = torch.stack([cos, -sin, theta[:, 0, 2], sin, cos, theta[:, 1, 2]], 1).view(-1, 2, 3)
    none = torch.zeros_like(width)
    left = torch.stack([torch.where(is_flipped, -width, width), none, none, none, height, none], 1)
    return _interpolate(images, make_grid(turn, images.shape[-1])), left.view(-1, 2, 3)


def _resample(
    images: Tensor, dim: int, side: int, starts: Tensor, lengths: Tensor, is_flipped: Tensor
) -> Tensor:
    """Boxes [B] along `dim` of images -> `side` pixels there, float32, by the triangle filter of
    `F.interpolate` with `antialias=True`.
    """
    size, device = images.shape[dim], images.device
    index = torch.arange(side, device=device)
    index = torch.where(is_flipped[:, None], side - 1 - index, index)[:, :, None]
    starts, lengths = starts[:, None, None], lengths[:, None, None]
    reach = (lengths / side).clamp_min(1)
    centres = (index + 0.5) * (lengths / side)  # [B, side, 1], within the box, as `places` are
    first = (centres - reach - 0.5).ceil()
    places = first + torch.arange(math.ceil(2 * size / side), device=device)  # [B, side, taps]
    weights = (1 - (places + 0.5 - centres).abs() / reach).clamp_min(0)
    weights = weights * ((places >= 0) & (places < lengths))
    weights = weights / weights.sum(2, keepdim=True)
    places = (places + starts).clamp(0, size - 1).long()
    total = torch.zeros([], device=device)
    shape = [side if axis == dim else length for axis, length in enumerate(images.shape)]
    along = [len(images), *(side if axis == dim else 1 for axis in (1, 2, 3))]
    for place, weight in zip(places.unbind(2), weights.unbind(2), strict=True):
        taken = images.gather(dim, place.reshape(along).expand(shape))
        total = total + _to_unit_range(taken) * weight.reshape(along)
    return total


def _interpolate(images: Tensor, grid: Tensor) -> Tensor:
    pixels = _to_unit_range(images)
    return F.grid_sample(pixels, grid, padding_mode="border", align_corners=False)


def _to_unit_range(images: Tensor) -> Tensor:
    return images.float().div_(255) if images.dtype == torch.uint8 else images


def _grid_by_product(theta: Tensor, side: int) -> Tensor:
    """[B, side, side, 2]: `F.affine_grid` without its corners aligned, as one matrix product for
    the whole batch instead of a tiny one for each sample.
    """
    base = torch.stack(_places(theta, side)).reshape(3, -1)
    return (theta.reshape(-1, 3) @ base).view(-1, 2, side, side).permute(0, 2, 3, 1)


def _grid_by_element(theta: Tensor, side: int) -> Tensor:
    """The same, by element, so that it is computed where it is read."""
    base = torch.stack(_places(theta, side), -1)  # [side, side, 3]
    return (theta[:, None, None] * base[:, :, None]).sum(-1)


def _places(theta: Tensor, side: int) -> list[Tensor]:
    """x, y and 1 of the pixels' centres, [side, side] each."""
    centres = (torch.arange(side, device=theta.device) * 2 + 1) / side - 1
    x, y = centres.expand(side, side), centres[:, None].expand(side, side)
    return [x, y, torch.ones_like(x)]

"""Bilinear resampling with derivatives of any order, as the R1 penalty needs of `augment.py`."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def resample(images: Tensor, grid: Tensor) -> Tensor:
    """`images` [B, C, R, R] at `grid` [B, R, R, 2], in [-1, 1]; reflected beyond the edges."""
    resampled: Tensor = _Resample.apply(images, grid)  # type: ignore[no-untyped-call]
    return resampled


class _Resample(torch.autograd.Function):
    """grid_sample, linear in the images: torch gives it one derivative, this all of them."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, grid: Tensor) -> Tensor:
        ctx.save_for_backward(grid)
        return F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return _ResampleTransposed.apply(gradients[0], *ctx.saved_tensors), None  # type: ignore[no-untyped-call]


class _ResampleTransposed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gradient: Tensor, grid: Tensor) -> Tensor:
        ctx.save_for_backward(grid)
        images = torch.empty_like(gradient)  # only its shape matters
        modes = (0, 2, False)  # bilinear, reflection, align_corners
        found: Tensor = torch.ops.aten.grid_sampler_2d_backward(
            gradient, images, grid, *modes, [True, False]
        )[0]
        return found

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return _Resample.apply(gradients[0], *ctx.saved_tensors), None  # type: ignore[no-untyped-call]

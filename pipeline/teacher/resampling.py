"""StyleGAN2's resampling convolutions, with the FIR filter folded into the kernel.

The FIR filter of every resampling layer is folded into its kernel: a 3x3
up-convolution followed by a 4x4 FIR is one 3x3 convolution to four sub-pixel phases, a FIR followed
by a 3x3 down-convolution one 6x6 convolution.
Neighbour: `stylegan2.py`, whose layers these are.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def resample_filter() -> Tensor:
    """The FIR low-pass outer([1, 3, 3, 1]) / 64, [4, 4] float32, sum 1."""
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0])
    return torch.outer(taps, taps) / 64


def _correlate(weight: Tensor, fir: Tensor) -> Tensor:
    """Full correlation of each 3x3 kernel of `weight` [O, I, 3, 3] with `fir` [4, 4]: [O, I, 6,
    6].
    """
    flat = weight.reshape(-1, 1, *weight.shape[2:])
    full = F.conv2d(flat, fir[None, None], padding=3)
    return full.reshape(*weight.shape[:2], *full.shape[2:])


def conv_up(x: Tensor, weight: Tensor, fir: Tensor) -> Tensor:
    """Transposed 3x3 convolution with stride 2, then `fir` with gain 4; [B, I, r, r] -> [B, O, 2r,
    2r].

    With K = w correlated with the FIR (taps -2 … 3), output pixel 2m + p sums x[m + t] K[p - 2t]
    over t in {-1, 0, 1}: a plain 3x3 convolution to the four phases p, interleaved by
    `pixel_shuffle`.
    """
    kernel = _correlate(weight, 4 * fir).flip(2, 3)  # taps 3 … -2
    out_channels, in_channels = weight.shape[:2]
    phases = kernel.reshape(out_channels, in_channels, 3, 2, 3, 2).flip(3, 5)
    phases = phases.permute(0, 3, 5, 1, 2, 4).reshape(4 * out_channels, in_channels, 3, 3)
    return F.pixel_shuffle(F.conv2d(x, phases, padding=1), 2)


def conv_down(x: Tensor, weight: Tensor, fir: Tensor) -> Tensor:
    """`fir` with padding 2, then a 3x3 convolution with stride 2; [B, I, r, r] -> [B, O, r/2,
    r/2].
    """
    return F.conv2d(x, _correlate(weight, fir.flip(0, 1)), stride=2, padding=2)


def upsample_image(image: Tensor, fir: Tensor) -> Tensor:
    """Zero-insertion, pad (2, 1), FIR with gain 4; [B, C, r, r] -> [B, C, 2r, 2r]."""
    channels = image.shape[1]
    weight = (4 * fir.flip(0, 1)).expand(channels, 1, 4, 4)
    return F.conv_transpose2d(image, weight, stride=2, padding=1, groups=channels)

"""StyleGAN2's resampling: one shared weight, and the FIR as a depthwise convolution.

Folding the FIR into the kernel would save a pass but cost four times the multiply-adds (measured:
2.7 times slower at 512 channels, on one CPU thread). Neighbours: `stylegan2.py` and `layers.py`,
whose layers use these. `fir` is always [4, 4] with sum 1 and has no gradient.

torch computes the second derivative of a depthwise convolution one channel at a time: at 128
channels an R1 penalty took 414 convolutions. The FIR is linear in the image, so the derivative of
any order is the FIR or its transpose; the two `autograd.Function`s below say so. They compute
values and first derivatives with the calls that torch would make.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

_TAPS = 4


def resample_filter() -> Tensor:
    """The FIR low-pass outer([1, 3, 3, 1]) / 64, [4, 4] float32, sum 1."""
    taps = (1.0, 3.0, 3.0, 1.0)
    return torch.tensor([[x * y / 64 for x in taps] for y in taps])


def conv_up(x: Tensor, weight: Tensor, fir: Tensor) -> Tensor:
    """Transposed 3x3 convolution with stride 2, then `fir` (pad 1, gain 4).

    [B, I, r, r], weight [O, I, 3, 3] -> [B, O, 2r, 2r].
    """
    x = F.conv_transpose2d(x, weight.transpose(0, 1), stride=2)
    return _correlate(x, (4 * fir).flip(0, 1), padding=1)


def conv_down(x: Tensor, weight: Tensor, fir: Tensor, bias: Tensor | None = None) -> Tensor:
    """`fir` (pad 2), then a 3x3 convolution with stride 2, plus `bias` [O].

    [B, I, r, r], weight [O, I, 3, 3] -> [B, O, r/2, r/2].
    """
    return F.conv2d(_correlate(x, fir.flip(0, 1), padding=2), weight, bias, stride=2)


def upsample_image(image: Tensor, fir: Tensor) -> Tensor:
    """Zero-insertion, pad (2, 1), FIR with gain 4; [B, C, r, r] -> [B, C, 2r, 2r]."""
    found: Tensor = _Spread.apply(image, 4 * fir.flip(0, 1))  # type: ignore[no-untyped-call]
    return found


def downsample_image(image: Tensor, fir: Tensor) -> Tensor:
    """Pad 1, `fir`, every second pixel; [B, C, r, r] -> [B, C, r/2, r/2]."""
    return _correlate(image, fir.flip(0, 1), padding=1, stride=2)


def _correlate(x: Tensor, taps: Tensor, padding: int, stride: int = 1) -> Tensor:
    """Every channel of `x` with the same `taps`."""
    found: Tensor = _Correlate.apply(x, taps, padding, stride)  # type: ignore[no-untyped-call]
    return found


class _Correlate(torch.autograd.Function):
    """Depthwise convolution with one kernel for all channels; stride 2 only with padding 1."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, taps: Tensor, padding: int, stride: int) -> Tensor:
        ctx.save_for_backward(taps)
        ctx.padding, ctx.stride = padding, stride
        channels = x.shape[1]
        weight = taps.expand(channels, 1, _TAPS, _TAPS)
        return F.conv2d(x, weight, stride=stride, padding=padding, groups=channels)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        gradient, (taps,) = gradients[0], ctx.saved_tensors
        taps = taps.to(gradient.dtype)  # another one under autocast
        if ctx.stride == 2:
            found: Tensor = _Spread.apply(gradient, taps)  # type: ignore[no-untyped-call]
        else:
            found = _correlate(gradient, taps.flip(0, 1), _TAPS - 1 - ctx.padding)
        return found, None, None, None


class _Spread(torch.autograd.Function):
    """The transpose of `_Correlate` with padding 1 and stride 2."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, taps: Tensor) -> Tensor:
        ctx.save_for_backward(taps)
        channels = x.shape[1]
        weight = taps.expand(channels, 1, _TAPS, _TAPS)
        return F.conv_transpose2d(x, weight, stride=2, padding=1, groups=channels)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (taps,) = ctx.saved_tensors
        taps = taps.to(gradients[0].dtype)
        return _correlate(gradients[0], taps, padding=1, stride=2), None

"""StyleGAN3's nonlinearity between two low-pass filters (Karras et al. 2021, section 3.1).

A map's sampling rate is raised, leaky ReLU applied, and the rate lowered again, so that what the
ReLU adds above the band limit is filtered away. Separable filters are banded matrices here: no
zeros are inserted, and nothing is computed that the lower rate drops. Maps are cut into tiles,
which keeps the matrices and the raised maps small. On one CPU thread that took from an eighth to a
quarter of the time of depthwise convolutions of the whole map. A radial filter is one depthwise
convolution: its separable parts took four times as long. Neighbour: `stylegan3.py`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.teacher.architectures.stylegan3 import StyleGAN3Layer
from pipeline.teacher.networks.layers import LEAKY_SLOPE

_MAX_TILE = {"cpu": 28}
"""Side of a tile of the output: a matrix product grows with it, what tiles share shrinks. Between
16 and 32 they were equally fast; on GPUs, where starting kernels counts, it is larger (a guess)."""
_MAX_TILE_ELSEWHERE = 96


def filtered_leaky_relu(
    x: Tensor, up_filter: Tensor | None, down_filter: Tensor | None, layer: StyleGAN3Layer
) -> Tensor:
    """[B, C, r, r] -> [B, C, size, size]: rate times `up`, leaky ReLU, clamp, rate by `down`.

    In full: zero insertion, padding, `up_filter` with gain up², leaky ReLU, clamp, `down_filter`,
    every `down`-th pixel. As of `leaky_relu`, the gain √2 is left to what comes before.

    Args:
        x: what the layer's convolution makes, with its bias.
        up_filter: [up_taps], used on both axes; None where `up_taps` is 1.
        down_filter: [down_taps], or [down_taps, down_taps] if radial; None where `down_taps` is 1.
        layer: factors, padding, sizes and clamp.
    """
    one = x.new_ones(1)
    raising = one if up_filter is None else up_filter.to(x.dtype)
    lowering = one if down_filter is None else down_filter.to(x.dtype)
    tile, num_tiles = _tile_size(layer, x.device)
    side = (tile - 1) * layer.down + layer.down_taps  # of a raised tile
    start = -(layer.padding[0] // layer.up)  # input pixel that the first raised pixel begins with
    reach = (side + layer.up_taps - 2 - layer.padding[0]) // layer.up - start + 1
    shift = tile * layer.down // layer.up  # input pixels from one tile to the next
    end = (num_tiles - 1) * shift + start + reach - x.shape[-1]
    x = F.pad(x, [-start, end, -start, end]).permute(0, 2, 3, 1)  # [B, r, r, C]
    raise_rate = _raising_matrix(raising, layer, start, (side, reach))
    lower_rate = _Lowering(lowering, layer, (tile, side), x.shape[-1])
    found = x.new_empty(len(x), layer.size, layer.size, x.shape[-1])
    for left in range(num_tiles):
        columns = raise_rate @ x[:, :, left * shift : left * shift + reach]
        for top in range(num_tiles):
            rows = columns[:, top * shift : top * shift + reach]
            raised = (raise_rate @ rows.flatten(2)).view(len(x), side, side, -1)
            if (clamp := layer.conv_clamp) is not None:  # of what leaky ReLU makes of it
                raised = raised.clamp_(-clamp / LEAKY_SLOPE, clamp)
            lowered = lower_rate(F.leaky_relu_(raised, LEAKY_SLOPE))
            place = found[:, top * tile : (top + 1) * tile, left * tile : (left + 1) * tile]
            place.copy_(lowered[:, : place.shape[1], : place.shape[2]])
    return found.permute(0, 3, 1, 2)


def _tile_size(layer: StyleGAN3Layer, device: torch.device) -> tuple[int, int]:
    """Side of a tile of the output, and how many there are along an axis."""
    largest = _MAX_TILE.get(device.type, _MAX_TILE_ELSEWHERE)
    side = -(-layer.size // -(-layer.size // largest))
    side += -side % layer.tile_shift
    return side, -(-layer.size // side)


def _raising_matrix(
    taps: Tensor, layer: StyleGAN3Layer, start: int, shape: tuple[int, int]
) -> Tensor:
    """[raised pixels, input pixels from `start` on], with gain `up`."""
    raised, given = (torch.arange(num, device=taps.device) for num in shape)
    offset = layer.padding[0] + (given + start) * layer.up
    return layer.up * _banded(taps, raised[:, None] - offset)


class _Lowering:
    """Raised tiles [B, side, side, C] -> [B, tile, tile, C]."""

    def __init__(
        self, taps: Tensor, layer: StyleGAN3Layer, shape: tuple[int, int], num_channels: int
    ) -> None:
        self._down = layer.down
        self._is_radial = layer.is_radial
        if layer.is_radial:
            kernel = taps.flip(0, 1).expand(num_channels, 1, -1, -1)
            self._weight = kernel.contiguous(memory_format=torch.channels_last)
        else:
            lowered, raised = (torch.arange(num, device=taps.device) for num in shape)
            self._weight = _banded(taps, lowered[:, None] * layer.down - raised)

    def __call__(self, x: Tensor) -> Tensor:
        if self._is_radial:
            maps = x.permute(0, 3, 1, 2)
            lowered = F.conv2d(maps, self._weight, stride=self._down, groups=maps.shape[1])
            return lowered.permute(0, 2, 3, 1)
        rows = (self._weight @ x.flatten(2)).view(len(x), -1, *x.shape[2:])
        return self._weight @ rows


def _banded(taps: Tensor, offsets: Tensor) -> Tensor:
    """taps[T - 1 + offset], 0 beyond: a convolution as a matrix of `offsets`."""
    index = offsets + len(taps) - 1
    is_inside = (index >= 0) & (index < len(taps))
    return taps[index.clamp(0, len(taps) - 1)] * is_inside

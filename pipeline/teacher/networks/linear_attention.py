"""Linear attention between blocks, as lucidrains/stylegan2-pytorch has it.

Module names are those of the repository.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.teacher.networks.layers import LEAKY_SLOPE

_HEADS, _HEAD_DIM = 8, 64


class ChannelNorm(nn.Module):
    """Normalises each pixel over its channels."""

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        self.g = nn.Parameter(torch.ones(1, num_channels, 1, 1))
        self.b = nn.Parameter(torch.zeros(1, num_channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, r, r] -> [B, C, r, r]."""
        variance, mean = torch.var_mean(x, 1, unbiased=False, keepdim=True)
        x = (x - mean) * (variance + 1e-5).rsqrt() * self.g + self.b
        return x


class SeparableConv(nn.Module):
    """Depthwise 3x3, then 1x1."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(in_channels, in_channels, 3, padding=1, groups=in_channels, bias=False),
            nn.Conv2d(in_channels, out_channels, 1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        """[B, I, r, r] -> [B, O, r, r]."""
        x = self.net(x)
        return x


class LinearAttention(nn.Module):
    """Attention whose cost is linear in the number of pixels (Shen et al. 2021)."""

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        width = _HEADS * _HEAD_DIM
        self.to_q = nn.Conv2d(num_channels, width, 1, bias=False)
        self.to_kv = SeparableConv(num_channels, 2 * width)
        self.to_out = nn.Conv2d(width, num_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, r, r] -> [B, C, r, r]."""
        query = self.to_q(x).unflatten(1, (_HEADS, _HEAD_DIM)).flatten(3)  # [B, H, D, r²]
        pairs = self.to_kv(x).unflatten(1, (2, _HEADS, _HEAD_DIM)).flatten(4)
        key, value = pairs.unbind(1)
        query = query.softmax(2) / _HEAD_DIM**0.5
        context = value @ key.softmax(3).mT  # [B, H, D, D]
        out: Tensor = self.to_out(F.gelu(context @ query).flatten(1, 2).unflatten(2, x.shape[2:]))
        return out


class PreNorm(nn.Module):
    """fn(norm(x))."""

    def __init__(self, num_channels: int, fn: nn.Module) -> None:
        super().__init__()
        self.norm = ChannelNorm(num_channels)
        self.fn = fn

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, r, r] -> [B, C, r, r]."""
        x = self.fn(self.norm(x))
        return x


class Residual(nn.Module):
    """x + fn(x)."""

    def __init__(self, fn: nn.Module) -> None:
        super().__init__()
        self.fn = fn

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, r, r] -> [B, C, r, r]."""
        x = x + self.fn(x)
        return x


def attention_layer(num_channels: int) -> nn.Sequential:
    """Linear attention, then two 1x1 convolutions, both residual."""
    feed_forward = nn.Sequential(
        nn.Conv2d(num_channels, 2 * num_channels, 1),
        nn.LeakyReLU(LEAKY_SLOPE),
        nn.Conv2d(2 * num_channels, num_channels, 1),
    )
    return nn.Sequential(
        Residual(PreNorm(num_channels, LinearAttention(num_channels))),
        Residual(PreNorm(num_channels, feed_forward)),
    )

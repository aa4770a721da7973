"""Layers that StyleGAN2's generator and discriminator share: fully connected, mapping, equalised
convolution.

Written from the papers (Karras et al. 2019, 2020). Parameter names and shapes are those of the
official StyleGAN2-ADA checkpoints. Neighbours: `stylegan2.py`, `discriminator.py`.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.teacher.networks.fir import (
    conv_down,
    downsample_image,
    resample_filter,
    upsample_image,
)

LEAKY_SLOPE = 0.2
LEAKY_GAIN = math.sqrt(2)
RESIDUAL_GAIN = math.sqrt(0.5)
"""Scale of both branches of a residual block, which keeps the variance of their sum."""


def leaky_relu(x: Tensor, clamp: float | None = None) -> Tensor:
    """Leaky ReLU of slope 0.2, clamped to ±`clamp`.

    Its unit-variance gain √2 is left to what comes before: scaling small weights and biases by
    `LEAKY_GAIN` saves a pass over the map, since leaky ReLU commutes with positive factors.
    """
    x = F.leaky_relu(x, LEAKY_SLOPE)
    return x if clamp is None else x.clamp(-clamp, clamp)


def normalise_second_moment(x: Tensor) -> Tensor:
    """`x` [B, D] scaled to a mean square of 1 in each row."""
    return x * (x.square().mean(1, keepdim=True) + 1e-8).rsqrt()


class FullyConnected(nn.Module):
    """y = x (W · lr_mult / √in)ᵀ + b · lr_mult, optionally followed by the scaled leaky ReLU."""

    def __init__(
        self, in_features: int, out_features: int, *, lr_mult: float = 1.0, bias_init: float = 0.0,
        activate: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_features, in_features) / lr_mult)
        self.bias = nn.Parameter(torch.full((out_features,), bias_init))
        gain = lr_mult * (LEAKY_GAIN if activate else 1.0)
        self.weight_gain = gain / math.sqrt(in_features)
        self.bias_gain = gain
        self.activate = activate

    def forward(self, x: Tensor) -> Tensor:
        """[B, in] -> [B, out]."""
        x = F.linear(x, self.weight * self.weight_gain, self.bias * self.bias_gain)
        return leaky_relu(x) if self.activate else x


class Mapping(nn.Module):
    """Normalised latent and embedded label -> fully connected layers -> [B, w_dim].

    The discriminator's has no latent (`z_dim` 0), and may have no layers.
    """

    def __init__(
        self, z_dim: int, num_classes: int, w_dim: int, num_layers: int, lr_mult: float
    ) -> None:
        super().__init__()
        self.num_layers = num_layers
        self.num_classes = num_classes
        in_features = z_dim
        if num_classes:
            self.embed = FullyConnected(num_classes, w_dim)
            in_features += w_dim
        for i in range(num_layers):
            layer = FullyConnected(in_features, w_dim, lr_mult=lr_mult, activate=True)
            self.add_module(f"fc{i}", layer)
            in_features = w_dim

    def forward(self, z: Tensor | None, labels: Tensor | None) -> Tensor:
        """`z` [B, z_dim] and `labels` [B, num_classes], each only where there is one -> [B, w_dim].

        Raises:
            ValueError: if labels are missing, superfluous or of the wrong width.
        """
        parts = [] if z is None else [normalise_second_moment(z)]
        if self.num_classes:
            if labels is None or labels.shape[1:] != (self.num_classes,):
                given = "none" if labels is None else list(labels.shape)
                raise ValueError(f"labels: expected [B, {self.num_classes}], got {given}")
            parts.append(normalise_second_moment(self.embed(labels)))
        elif labels is not None:
            raise ValueError("labels: this network has no classes")
        return self.map(torch.cat(parts, 1))

    def map(self, x: Tensor) -> Tensor:
        """The layers alone: [B, in_features] -> [B, w_dim]."""
        for i in range(self.num_layers):
            x = self.get_submodule(f"fc{i}")(x)
        return x


class EqualisedConv(nn.Module):
    """Convolution with weight / √(in k²); bias, leaky ReLU and clamp unless `is_linear`.

    `resample` "down" filters and halves, "up" doubles (1x1 kernels only).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        clamp: float | None = None,
        *,
        resample: str | None = None,
        is_linear: bool = False,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, kernel, kernel))
        self.bias = None if is_linear else nn.Parameter(torch.zeros(out_channels))
        self.weight_gain = 1 / math.sqrt(in_channels * kernel**2)
        self.conv_clamp = clamp
        self.resample = resample
        self.register_buffer("resample_filter", resample_filter())
        self.resample_filter: Tensor

    def forward(self, x: Tensor, gain: float = 1.0) -> Tensor:
        """[B, I, r, r] -> [B, O, r, r], or r/2 or 2r; everything scaled by `gain`."""
        scale = gain * (1.0 if self.bias is None else LEAKY_GAIN)
        weight = (self.weight * (self.weight_gain * scale)).to(x.dtype)
        bias = None if self.bias is None else (self.bias * scale).to(x.dtype)
        fir = self.resample_filter.to(x.dtype)
        kernel = weight.shape[-1]
        if self.resample == "down" and kernel == 1:
            x = F.conv2d(downsample_image(x, fir), weight, bias)
        elif self.resample == "down":
            x = conv_down(x, weight, fir, bias)
        elif self.resample == "up":
            x = upsample_image(F.conv2d(x, weight, bias), fir)
        else:
            x = F.conv2d(x, weight, bias, padding=kernel // 2)
        if bias is None:
            return x
        return leaky_relu(x, None if self.conv_clamp is None else self.conv_clamp * gain)

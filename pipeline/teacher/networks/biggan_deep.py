"""BigGAN-deep's generator (Brock et al. 2019), with pytorch-pretrained-BigGAN's names of modules.

Written from the paper and from what such checkpoints hold. Spectral norms are constants, so that
weights here are divided by them already; `importing/biggan_deep.py` does it. Neighbours:
`biggan.py`, `nearest.py`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.teacher.architectures.biggan_deep import (
    FIRST_SIDE,
    BigGANDeepArchitecture,
    BottleneckBlock,
)
from pipeline.teacher.interface import GeneratorOutput, Noise, TeacherGenerator, check_labels
from pipeline.teacher.networks.attention import Attention
from pipeline.teacher.networks.nearest import RepeatedConv, repeat_pixels

_ATTENTION = ("snconv1x1_theta", "snconv1x1_phi", "snconv1x1_g", "snconv1x1_o_conv")
_BOUND = 2.0
"""Latents of truncated samples are normal within ± this, times the truncation."""


class Mixture(NamedTuple):
    """Which rows of the statistics a truncation takes, and in which shares."""

    row: int
    share: float
    """Of `row`; the rest is of the next one."""

    @classmethod
    def of(cls, truncation: float, num_rows: int) -> Mixture:
        """Between two rows pytorch-pretrained-BigGAN gives the nearer one the smaller share, and
        this does, too: the images are to be the same.
        """
        fraction, row = math.modf(truncation / (1.0 / (num_rows - 1)))
        return cls(int(row), fraction if fraction else 1.0)

    def __call__(self, rows: Tensor) -> Tensor:
        """[num_rows, C] -> [C]."""
        if self.share == 1:
            return rows[self.row]
        return rows[self.row] * self.share + rows[self.row + 1] * (1 - self.share)


class TruncatedNorm(nn.Module):
    """Batch normalisation by the statistics of a truncation; with a `condition_dim`, scaled by
    1 + scale(y) and shifted by offset(y), else by parameters.
    """

    def __init__(
        self, num_channels: int, arch: BigGANDeepArchitecture, condition_dim: int | None
    ) -> None:
        super().__init__()
        self.eps = arch.bn_eps
        self.register_buffer("running_means", torch.zeros(arch.num_statistics, num_channels))
        self.register_buffer("running_vars", torch.ones(arch.num_statistics, num_channels))
        self.running_means: Tensor
        self.running_vars: Tensor
        self.is_conditional = condition_dim is not None
        if condition_dim is not None:
            self.scale = nn.Linear(condition_dim, num_channels, bias=False)
            self.offset = nn.Linear(condition_dim, num_channels, bias=False)
        else:
            self.weight = nn.Parameter(torch.ones(num_channels))
            self.bias = nn.Parameter(torch.zeros(num_channels))

    def forward(self, x: Tensor, condition: Tensor, mixture: Mixture) -> Tensor:
        """[B, C, r, r], condition [B, D] -> [B, C, r, r]."""
        mean, var = mixture(self.running_means), mixture(self.running_vars)
        if self.is_conditional:
            weight, bias = 1 + self.scale(condition), self.offset(condition)
        else:
            weight, bias = self.weight[None], self.bias[None]
        weight = weight * (var + self.eps).rsqrt()
        bias = bias - mean * weight
        return torch.addcmul(bias[:, :, None, None], x, weight[:, :, None, None])


class Bottleneck(nn.Module):
    """Four normalised convolutions, 1x1 and 3x3 and 3x3 and 1x1, beside what goes on as it is."""

    def __init__(self, block: BottleneckBlock, arch: BigGANDeepArchitecture) -> None:
        super().__init__()
        self.out_channels = block.out_channels
        self.is_doubling = block.is_doubling
        middle = block.middle_channels
        widths = (block.in_channels, middle, middle, middle)
        for index, width in enumerate(widths):
            norm = TruncatedNorm(width, arch, arch.z_dim + arch.embedding_dim)
            self.add_module(f"bn_{index}", norm)
        self.conv_0 = nn.Conv2d(block.in_channels, middle, 1)
        self.conv_1 = (
            RepeatedConv(middle, middle)
            if block.is_doubling
            else nn.Conv2d(middle, middle, 3, padding=1)
        )
        self.conv_2 = nn.Conv2d(middle, middle, 3, padding=1)
        self.conv_3 = nn.Conv2d(middle, block.out_channels, 1)

    def forward(self, x: Tensor, condition: Tensor, mixture: Mixture) -> Tensor:
        """[B, I, r, r], condition [B, D] -> [B, O, r, r] or [B, O, 2r, 2r]."""
        h = x
        for index in range(4):
            norm, conv = self.get_submodule(f"bn_{index}"), self.get_submodule(f"conv_{index}")
            h = conv(F.relu(norm(h, condition, mixture)))
        kept = x[:, : self.out_channels]
        return h + (repeat_pixels(kept) if self.is_doubling else kept)


class DeepNetwork(nn.Module):
    """What is called `generator` in such checkpoints."""

    def __init__(self, arch: BigGANDeepArchitecture) -> None:
        super().__init__()
        self.first_width = arch.blocks[0].in_channels
        self.num_statistics = arch.num_statistics
        self.gen_z = nn.Linear(arch.z_dim + arch.embedding_dim, self.first_width * FIRST_SIDE**2)
        self.layers = nn.ModuleList()
        width = self.first_width
        for block in arch.blocks:
            self._attend(width, arch)
            self.layers.append(Bottleneck(block, arch))
            width = block.out_channels
        self._attend(width, arch)
        self.bn = TruncatedNorm(width, arch, None)
        self.conv_to_rgb = nn.Conv2d(width, arch.image_channels, 3, padding=1)

    def _attend(self, width: int, arch: BigGANDeepArchitecture) -> None:
        while len(self.layers) in arch.attention:
            self.layers.append(Attention(width, _ATTENTION))

    def forward(self, condition: Tensor, truncation: float) -> Tensor:
        """[B, z_dim + embedding_dim] -> images [B, 3, R, R]."""
        mixture = Mixture.of(truncation, self.num_statistics)
        x = self.gen_z(condition).unflatten(1, (FIRST_SIDE, FIRST_SIDE, self.first_width))
        x = x.permute(0, 3, 1, 2)
        for layer in self.layers:
            x = layer(x) if isinstance(layer, Attention) else layer(x, condition, mixture)
        image: Tensor = self.conv_to_rgb(F.relu(self.bn(x, condition, mixture)))
        return image.tanh()


class BigGANDeepGenerator(TeacherGenerator):
    """Latents and labels -> images; every block and the attention layer are block features."""

    def __init__(self, arch: BigGANDeepArchitecture) -> None:
        super().__init__()
        self.arch: BigGANDeepArchitecture = arch
        self.embeddings = nn.Linear(arch.num_classes, arch.embedding_dim, bias=False)
        self.generator = DeepNetwork(arch)
        self.blocks = [f"generator.layers.{index}" for index in range(len(self.generator.layers))]

    def truncate_latents(self, z: Tensor, truncation_psi: float) -> Tensor:
        """Latents of truncated samples, of the same rank among theirs: normal within ±2, times the
        truncation (Brock et al. 2019, section 3.1).
        """
        if truncation_psi == 1:
            return z
        tail = 0.5 * math.erfc(_BOUND / math.sqrt(2))
        ranks = tail + (1 - 2 * tail) * torch.special.ndtr(z)
        truncated: Tensor = torch.special.ndtri(ranks) * truncation_psi
        return truncated

    def forward(
        self,
        z: Tensor,
        noise: Noise = "none",
        *,
        labels: Tensor | None = None,
        truncation_psi: float = 1.0,
        truncation_cutoff: int | None = None,
    ) -> GeneratorOutput:
        """See `TeacherGenerator.forward`; `ws` is `z` [B, 1, z_dim], and the truncation selects
        statistics of normalisation, `z` stays what it is.

        Raises:
            ValueError: without labels or of another width, for a truncation outside of [0, 1], or
                with a cutoff.
        """
        if not 0 <= truncation_psi <= 1:
            raise ValueError(f"truncation_psi: must be from 0 to 1, got {truncation_psi}")
        if truncation_cutoff is not None:
            raise ValueError("truncation_cutoff: this family has no layers to tell apart")
        check_labels(labels, self.arch.num_classes)
        embedded = self.embeddings(labels)
        with self.autocast(z.device):
            image = self.generator(torch.cat([z, embedded], 1), truncation_psi)
        return GeneratorOutput(image.float(), z[:, None])

"""Projected GAN's generator (Sauer et al. 2021, cfg `fastgan`): FastGAN's chain, perhaps with
classes.

Module names are those of its repository (autonomousvision/projected-gan). Neighbour: `fastgan.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pipeline.teacher.architectures.projected_gan import ProjectedGANArchitecture
from pipeline.teacher.interface import (
    GeneratorOutput,
    Noise,
    TeacherGenerator,
    check_labels,
    refuse_truncation,
)
from pipeline.teacher.networks.fastgan import GatedChain, NoiseInjection, UpBlock, noise_maps
from pipeline.teacher.networks.layers import normalise_second_moment

_EPS = 1e-5


class ConditionalNorm(nn.Module):
    """Batch normalisation whose scale and shift are linear in the embedded class."""

    def __init__(self, num_channels: int, embedding_dim: int) -> None:
        super().__init__()
        self.gain = nn.Linear(embedding_dim, num_channels)
        self.bias = nn.Linear(embedding_dim, num_channels)
        self.register_buffer("stored_mean", torch.zeros(num_channels))
        self.register_buffer("stored_var", torch.ones(num_channels))
        self.stored_mean: Tensor
        self.stored_var: Tensor

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """[B, C, r, r], [B, embedding_dim] -> [B, C, r, r]."""
        scale = (1 + self.gain(embedding)) * (self.stored_var + _EPS).rsqrt()
        shift = self.bias(embedding) - self.stored_mean * scale
        x = x * scale[:, :, None, None] + shift[:, :, None, None]
        return x


class ConditionalUpBlock(nn.Module):
    """`UpBlock` with classes; the two convolutions of a full block share the noise's weight."""

    def __init__(
        self, in_channels: int, num_channels: int, embedding_dim: int, *, is_full: bool
    ) -> None:
        super().__init__()
        self.up = nn.Upsample(scale_factor=2)
        self.suffixes = ["1", "2"] if is_full else [""]
        for suffix in self.suffixes:
            conv = nn.Conv2d(in_channels, 2 * num_channels, 3, padding=1, bias=False)
            self.add_module(f"conv{suffix}", conv)
            self.add_module(f"bn{suffix}", ConditionalNorm(2 * num_channels, embedding_dim))
            in_channels = num_channels
        self.act = nn.GLU(1)
        if is_full:
            self.noise = NoiseInjection()

    def forward(self, x: Tensor, noise: Sequence[Tensor], embedding: Tensor) -> Tensor:
        """[B, I, r, r], no noise or two maps [B, 1, 2r, 2r], [B, embedding_dim] ->
        [B, C, 2r, 2r].
        """
        x = self.up(x)
        for index, suffix in enumerate(self.suffixes):
            x = self.get_submodule(f"conv{suffix}")(x)
            if noise:
                x = self.noise(x, noise[index])
            x = self.act(self.get_submodule(f"bn{suffix}")(x, embedding))
        return x


class Synthesis(GatedChain):
    """Latents of unit mean square -> image."""

    def __init__(self, arch: ProjectedGANArchitecture) -> None:
        def make_block(side: int, in_channels: int, num_channels: int) -> nn.Module:
            is_full = not arch.is_lite
            if arch.num_classes:
                return ConditionalUpBlock(in_channels, num_channels, arch.z_dim, is_full=is_full)
            return UpBlock(in_channels, num_channels, is_full=is_full)

        super().__init__(arch, make_block)
        if arch.num_classes:
            self.embed = nn.Embedding(arch.num_classes, arch.z_dim)
        self.to_big = nn.Conv2d(arch.widths[-1], arch.image_channels, 3, padding=1)

    def forward(self, z: Tensor, noise: Sequence[Tensor], labels: Tensor | None) -> Tensor:
        """[B, z_dim], maps of noise or none, one-hot [B, num_classes] with classes ->
        [B, C, R, R].
        """
        condition = [] if labels is None else [labels @ self.embed.weight]
        maps = self.maps(normalise_second_moment(z), noise, *condition)
        image: Tensor = self.to_big(maps[self.resolutions[-1]])
        return image


class ProjectedGANGenerator(TeacherGenerator):
    """Latents -> images; nothing keeps their values within [-1, 1]."""

    def __init__(self, arch: ProjectedGANArchitecture) -> None:
        super().__init__()
        self.arch: ProjectedGANArchitecture = arch
        self.synthesis = Synthesis(arch)
        self.blocks = [f"synthesis.{name}" for name in self.synthesis.block_names]
        self.noise_resolutions = arch.noise_resolutions

    def forward(
        self,
        z: Tensor,
        noise: Noise = "none",
        *,
        labels: Tensor | None = None,
        truncation_psi: float = 1.0,
        truncation_cutoff: int | None = None,
    ) -> GeneratorOutput:
        """See `TeacherGenerator.forward`; "const" is "none", and `ws` is `z` [B, 1, z_dim].

        Raises:
            ValueError: for truncation, another number of noise maps, or labels that do not fit.
        """
        refuse_truncation(truncation_psi)
        check_labels(labels, self.arch.num_classes)
        maps = noise_maps(noise, self.noise_resolutions)
        with self.autocast(z.device):
            image = self.synthesis(z, maps, labels)
        return GeneratorOutput(image.float(), z[:, None])

"""FastGAN's generator (Liu et al. 2021): a chain of blocks, the higher gated by the lower.

Module names are those of its repository (odegeasslbc/FastGAN-pytorch); spectral normalisation,
which does not change once a network is trained, is folded into the weights. Neighbours:
`fastgan_discriminator.py`; `projected_gan.py` has the same parts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from pipeline.teacher.architectures.fastgan import GATED_BY, FastGANArchitecture, GatedNetwork
from pipeline.teacher.interface import (
    GeneratorOutput,
    Noise,
    TeacherGenerator,
    refuse_truncation,
)


class NoiseInjection(nn.Module):
    """Adds a map of noise, scaled, to all channels."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor, noise: Tensor | None) -> Tensor:
        """[B, C, r, r], noise [B, 1, r, r] or None -> [B, C, r, r]."""
        return x if noise is None else x + (self.weight * noise).to(x.dtype)


class InitLayer(nn.Module):
    """The map of 4 px."""

    def __init__(self, z_dim: int, num_channels: int) -> None:
        super().__init__()
        self.init = nn.Sequential(
            nn.ConvTranspose2d(z_dim, 2 * num_channels, 4, bias=False),
            nn.BatchNorm2d(2 * num_channels),
            nn.GLU(1),
        )

    def forward(self, z: Tensor) -> Tensor:
        """[B, z_dim] -> [B, C, 4, 4]."""
        x: Tensor = self.init(z[:, :, None, None])
        return x


class UpBlock(nn.Sequential):
    """Upsampling, convolution, norm and gate; full: two of each but the first, and noise."""

    def __init__(self, in_channels: int, num_channels: int, *, is_full: bool) -> None:
        layers: list[nn.Module] = [nn.Upsample(scale_factor=2)]
        for width in (in_channels, num_channels) if is_full else (in_channels,):
            layers.append(nn.Conv2d(width, 2 * num_channels, 3, padding=1, bias=False))
            if is_full:
                layers.append(NoiseInjection())
            layers += [nn.BatchNorm2d(2 * num_channels), nn.GLU(1)]
        super().__init__(*layers)

    def forward(self, x: Tensor, noise: Sequence[Tensor] = ()) -> Tensor:
        """[B, I, r, r], no noise or two maps [B, 1, 2r, 2r] -> [B, C, 2r, 2r]."""
        maps = iter(noise)
        for layer in self:
            x = layer(x, next(maps, None)) if isinstance(layer, NoiseInjection) else layer(x)
        return x


class SkipExcitation(nn.Module):
    """Gates the channels of a large map by a small one (Liu et al. 2021, Eq. 1)."""

    def __init__(self, small_channels: int, num_channels: int) -> None:
        super().__init__()
        self.main = nn.Sequential(
            nn.AdaptiveAvgPool2d(4),
            nn.Conv2d(small_channels, num_channels, 4, bias=False),
            nn.SiLU(),
            nn.Conv2d(num_channels, num_channels, 1, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, small: Tensor, large: Tensor) -> Tensor:
        """[B, I, s, s], [B, C, r, r] -> [B, C, r, r]."""
        gated: Tensor = large * self.main(small)
        return gated


class GatedChain(nn.Module):
    """Latents -> maps of 4, 8, … px; `make_block(resolution, in_channels, num_channels)`."""

    def __init__(
        self, arch: GatedNetwork, make_block: Callable[[int, int, int], nn.Module]
    ) -> None:
        super().__init__()
        self.resolutions = arch.resolutions
        self.full_resolutions = arch.full_resolutions
        widths = dict(zip(arch.resolutions, arch.widths, strict=True))
        self.init = InitLayer(arch.z_dim, widths[4])
        for side in self.resolutions[1:]:
            self.add_module(f"feat_{side}", make_block(side, widths[side // 2], widths[side]))
            if side in GATED_BY:
                gate = SkipExcitation(widths[GATED_BY[side]], widths[side])
                self.add_module(f"se_{side}", gate)

    @property
    def block_names(self) -> list[str]:
        """The maps that the next block takes: gated where they are."""
        return [
            "init",
            *(
                f"se_{side}" if side in GATED_BY else f"feat_{side}"
                for side in self.resolutions[1:]
            ),
        ]

    def maps(self, z: Tensor, noise: Sequence[Tensor], *condition: Tensor) -> dict[int, Tensor]:
        """Maps [B, C, r, r] by resolution; `noise` are maps, or there is none."""
        found = {4: self.init(z)}
        inputs = list(noise)
        for side in self.resolutions[1:]:
            taken = inputs[:2] if side in self.full_resolutions else []
            inputs = inputs[len(taken) :]
            x = self.get_submodule(f"feat_{side}")(found[side // 2], taken, *condition)
            if side in GATED_BY:
                x = self.get_submodule(f"se_{side}")(found[GATED_BY[side]], x)
            found[side] = x
        return found


class Synthesis(GatedChain):
    """Latents -> an image, and a small one for the discriminator."""

    def __init__(self, arch: FastGANArchitecture) -> None:
        def make_block(side: int, in_channels: int, num_channels: int) -> nn.Module:
            return UpBlock(in_channels, num_channels, is_full=side in arch.full_resolutions)

        super().__init__(arch, make_block)
        self.to_128 = nn.Conv2d(arch.widths[5], arch.image_channels, 1, bias=False)
        self.to_big = nn.Conv2d(arch.widths[-1], arch.image_channels, 3, padding=1, bias=False)
        self.has_tanh = arch.resolution == 1024  # as in the repository

    def forward(self, z: Tensor, noise: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """[B, z_dim] -> [B, C, R, R], [B, C, 128, 128]."""
        maps = self.maps(z, noise)
        image, small = self.to_big(maps[self.resolutions[-1]]), self.to_128(maps[128])
        return (image.tanh(), small.tanh()) if self.has_tanh else (image, small)


def noise_maps(noise: Noise, sides: Sequence[int]) -> Sequence[Tensor]:
    """One map for each of `sides`, or none: these families store no maps that could be "const".

    Raises:
        ValueError: for another number of them.
    """
    if isinstance(noise, str):
        return []
    if len(noise) != len(sides):
        raise ValueError(f"noise: expected {len(sides)} maps, got {len(noise)}")
    return noise


class FastGANGenerator(TeacherGenerator):
    """Latents -> images. Nothing but 1024 px ends in tanh, so that values may leave [-1, 1]."""

    def __init__(self, arch: FastGANArchitecture) -> None:
        super().__init__()
        self.arch: FastGANArchitecture = arch
        self.synthesis = Synthesis(arch)
        self.blocks = self.synthesis.block_names
        self.noise_resolutions = arch.noise_resolutions

    @property
    def feature_root(self) -> nn.Module:
        """Features have the names of the repository."""
        return self.synthesis

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
            ValueError: for truncation, or another number of noise maps.
        """
        refuse_truncation(truncation_psi)
        maps = noise_maps(noise, self.noise_resolutions)
        with self.autocast(z.device):
            image, small = self.synthesis(z, maps)
        return GeneratorOutput(image.float(), z[:, None], small.float())

"""Shape of FastGAN's generator and discriminator (Liu et al. 2021). Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from pydantic import ConfigDict

from pipeline.teacher.architectures.sizes import check_sizes

GATED_BY = {64: 4, 128: 8, 256: 16, 512: 32}
"""Resolutions whose map is gated by that of a lower one (skip-layer excitation)."""


class GatedNetwork:
    """What the generators of FastGAN and of Projected GAN have in common: a map a resolution."""

    has_mapping: ClassVar[bool] = False
    can_truncate: ClassVar[bool] = False

    z_dim: int
    widths: tuple[int, ...]
    image_channels: int

    @property
    def resolutions(self) -> list[int]:
        """Of the maps: 4, 8, … that of the image."""
        return [4 << index for index in range(len(self.widths))]

    @property
    def resolution(self) -> int:
        """Side of the images."""
        return self.resolutions[-1]

    @property
    def w_dim(self) -> int:
        """There is no mapped latent: `w` is `z`."""
        return self.z_dim

    @property
    def full_resolutions(self) -> list[int]:
        """Whose blocks have two convolutions and noise; the others have one, and none."""
        raise NotImplementedError

    @property
    def noise_resolutions(self) -> list[int]:
        """Side of every noise map, in the order in which layers take them."""
        return [side for side in self.full_resolutions for _ in range(2)]

    def _check(self, lowest: int) -> None:
        if len(self.widths) > 9 or self.resolution < lowest:  # 9: 4 to 1024 px
            raise ValueError(f"widths: for {lowest} to 1024 px, got {len(self.widths)} of them")
        sizes = {f"widths[{index}]": width for index, width in enumerate(self.widths)}
        check_sizes(self.resolution, z_dim=self.z_dim, image_channels=self.image_channels, **sizes)


@dataclass(frozen=True)
class FastGANArchitecture(GatedNetwork):
    """A FastGAN generator (Liu et al. 2021) of 256, 512 or 1024 px."""

    __pydantic_config__ = ConfigDict(extra="forbid")
    title: ClassVar[str] = "FastGAN"

    z_dim: int
    widths: tuple[int, ...]
    """Channels of the maps of 4, 8, … px."""
    image_channels: int = 3
    family: Literal["fastgan"] = "fastgan"
    num_classes: Literal[0] = 0

    def __post_init__(self) -> None:
        self._check(256)

    @property
    def full_resolutions(self) -> list[int]:
        """Every second, from 8."""
        return self.resolutions[1::2]


@dataclass(frozen=True)
class FastGANDiscriminatorArchitecture:
    """A FastGAN discriminator (Liu et al. 2021) without its decoders, which only help to train."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    resolution: int
    widths: tuple[int, ...]
    """Channels from the image down: those of `down_from_big` (two at 1024 px), `down_4`, …
    `down_64` and the head's.
    """
    image_channels: int = 3
    family: Literal["fastgan"] = "fastgan"
    num_classes: Literal[0] = 0

    def __post_init__(self) -> None:
        if self.resolution not in (256, 512, 1024):
            raise ValueError(f"resolution: must be 256, 512 or 1024, got {self.resolution}")
        expected = 8 if self.resolution == 1024 else 7
        if len(self.widths) != expected:
            raise ValueError(f"widths: expected {expected} of them, got {len(self.widths)}")
        sizes = {f"widths[{index}]": width for index, width in enumerate(self.widths)}
        check_sizes(self.resolution, image_channels=self.image_channels, **sizes)

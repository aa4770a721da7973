"""Shapes of BigGAN's generator and discriminator (Brock et al. 2019), as BigGAN-PyTorch has them.

Imports no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from pydantic import ConfigDict

from pipeline.teacher.architectures.sizes import MAX_WIDTH, check_sizes


def check_epsilon(name: str, value: float) -> None:
    """Raise ValueError unless `value` is what keeps a normalisation from dividing by zero."""
    if not (isinstance(value, (int, float)) and 0 <= value <= 1):
        raise ValueError(f"{name}: must be from 0 to 1, got {value}")


def check_attention(positions: Sequence[int], num_blocks: int) -> None:
    """Raise ValueError unless `positions` are places among so many blocks, in order."""
    if list(positions) != sorted(set(positions) & set(range(num_blocks))):
        raise ValueError(
            f"attention: must be ascending numbers below {num_blocks}, got {list(positions)}"
        )


@dataclass(frozen=True)
class BigGANArchitecture:
    """A BigGAN generator: residual blocks that double the side, each normalised by the class."""

    __pydantic_config__ = ConfigDict(extra="forbid")
    title: ClassVar[str] = "BigGAN"
    has_mapping: ClassVar[bool] = False
    can_truncate: ClassVar[bool] = False

    z_dim: int
    num_classes: int
    widths: tuple[int, ...]
    """Channels of the first map, and after each block."""
    attention: tuple[int, ...] = ()
    """Blocks that attention follows, from 0."""
    shared_dim: int = 0
    """Width of the class embedding that all blocks share; 0: every normalisation has its own."""
    is_hierarchical: bool = False
    """Whether z is split: a part for the first map, one for each block beside the embedding."""
    bn_eps: float = 1e-5
    """Of the blocks' normalisations; the last one has 1e-5."""
    first_side: int = 4
    image_channels: int = 3
    family: Literal["biggan"] = "biggan"

    def __post_init__(self) -> None:
        if not 2 <= len(self.widths) <= 11:
            raise ValueError("widths: a BigGAN has from 1 to 10 blocks")
        widths = {f"widths[{index}]": width for index, width in enumerate(self.widths)}
        check_sizes(
            self.resolution,
            z_dim=self.z_dim,
            num_classes=self.num_classes,
            first_side=self.first_side,
            image_channels=self.image_channels,
            **widths,
        )
        if not 0 <= self.shared_dim <= MAX_WIDTH:
            raise ValueError(f"shared_dim: must be from 0 to {MAX_WIDTH}, got {self.shared_dim}")
        check_attention(self.attention, self.num_blocks)
        check_epsilon("bn_eps", self.bn_eps)
        if self.is_hierarchical and not self.shared_dim:
            raise ValueError("is_hierarchical: only with a shared class embedding (shared_dim)")
        if self.z_dim % self.num_parts:
            raise ValueError(f"z_dim: {self.z_dim} does not fall into {self.num_parts} equal parts")

    @property
    def num_blocks(self) -> int:
        """Blocks, each of which doubles the side."""
        return len(self.widths) - 1

    @property
    def num_parts(self) -> int:
        """Equal parts into which z is split."""
        return 1 + self.num_blocks if self.is_hierarchical else 1

    @property
    def condition_dim(self) -> int:
        """Width of what a block's normalisations are made from."""
        if not self.shared_dim:
            return self.num_classes
        return self.shared_dim + (self.z_dim // self.num_parts if self.is_hierarchical else 0)

    @property
    def resolution(self) -> int:
        """Side of the images."""
        return int(self.first_side * 2**self.num_blocks)

    @property
    def w_dim(self) -> int:
        """A BigGAN has no mapped latent: `w` is `z`."""
        return self.z_dim


@dataclass(frozen=True)
class BigGANDiscriminatorArchitecture:
    """A BigGAN discriminator: residual blocks, the first `num_halvings` of which halve the side."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    resolution: int
    widths: tuple[int, ...]
    """Channels after each block."""
    num_halvings: int
    num_classes: int
    attention: tuple[int, ...] = ()
    """Blocks that attention follows, from 0."""
    is_wide: bool = True
    """Whether a block widens in its first convolution, rather than in its second."""
    image_channels: int = 3
    family: Literal["biggan"] = "biggan"

    def __post_init__(self) -> None:
        if not 1 <= len(self.widths) <= 11:
            raise ValueError("widths: a BigGAN has from 1 to 11 blocks")
        widths = {f"widths[{index}]": width for index, width in enumerate(self.widths)}
        check_sizes(
            self.resolution,
            num_classes=self.num_classes,
            image_channels=self.image_channels,
            **widths,
        )
        check_attention(self.attention, len(self.widths))
        if not 0 <= self.num_halvings <= len(self.widths):
            raise ValueError(f"num_halvings: must be from 0 to {len(self.widths)}")
        if self.resolution % 2**self.num_halvings:
            raise ValueError(
                f"resolution: {self.resolution} cannot be halved {self.num_halvings} times"
            )

"""Shape of BigGAN-deep's generator (Brock et al. 2019), as pytorch-pretrained-BigGAN has it.

Imports no torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from pydantic import ConfigDict

from pipeline.teacher.architectures.biggan import check_attention, check_epsilon
from pipeline.teacher.architectures.sizes import MAX_WIDTH, check_sizes

FIRST_SIDE = 4


@dataclass(frozen=True)
class BottleneckBlock:
    """A residual block of four convolutions, the middle ones of `middle_channels`."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    in_channels: int
    out_channels: int
    middle_channels: int
    is_doubling: bool
    """Whether it doubles the side."""


@dataclass(frozen=True)
class BigGANDeepArchitecture:
    """A BigGAN-deep generator, whose statistics of normalisation depend on the truncation."""

    __pydantic_config__ = ConfigDict(extra="forbid")
    title: ClassVar[str] = "BigGAN-deep"
    has_mapping: ClassVar[bool] = False
    can_truncate: ClassVar[bool] = True

    z_dim: int
    num_classes: int
    embedding_dim: int
    """Width of the class embedding."""
    blocks: tuple[BottleneckBlock, ...]
    attention: tuple[int, ...]
    """Places of attention layers in the chain of blocks and such layers, from 0."""
    num_statistics: int
    """Truncations from 0 to 1 of which there are statistics."""
    bn_eps: float = 1e-4
    image_channels: Literal[3] = 3
    family: Literal["biggan-deep"] = "biggan-deep"

    def __post_init__(self) -> None:
        if not 1 <= len(self.blocks) <= 64:
            raise ValueError("blocks: a BigGAN-deep has from 1 to 64")
        check_sizes(
            self.resolution,
            z_dim=self.z_dim,
            num_classes=self.num_classes,
            embedding_dim=self.embedding_dim,
        )
        for index, block in enumerate(self.blocks):
            check_sizes(
                2,
                **{
                    f"blocks[{index}].in_channels": block.in_channels,
                    f"blocks[{index}].out_channels": block.out_channels,
                    f"blocks[{index}].middle_channels": block.middle_channels,
                },
            )
            if block.out_channels not in (block.in_channels, block.in_channels // 2):
                raise ValueError(f"blocks[{index}]: keeps its channels or half of them")
            if index and block.in_channels != self.blocks[index - 1].out_channels:
                raise ValueError(f"blocks[{index}]: takes other channels than there are")
        check_attention(self.attention, len(self.blocks) + len(self.attention))
        check_epsilon("bn_eps", self.bn_eps)
        if not 2 <= self.num_statistics <= MAX_WIDTH:
            raise ValueError(f"num_statistics: must be from 2 to {MAX_WIDTH}")

    @property
    def resolution(self) -> int:
        """Side of the images."""
        return int(FIRST_SIDE * 2 ** sum(block.is_doubling for block in self.blocks))

    @property
    def w_dim(self) -> int:
        """A BigGAN-deep has no mapped latent: `w` is `z`."""
        return self.z_dim

"""Shape of lucidrains' StyleGAN2 (lucidrains/stylegan2-pytorch). Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from pydantic import ConfigDict

from pipeline.teacher.architectures.sizes import check_sizes


def _check(resolution: int, widths: Sequence[int], attention: Sequence[int], **sizes: int) -> None:
    named = {f"widths[{index}]": width for index, width in enumerate(widths)}
    check_sizes(resolution, **named, **sizes)
    if sorted(set(attention) & set(range(len(widths)))) != list(attention):
        raise ValueError(
            f"attention: must be positions of blocks in order, got {list(attention)} of "
            f"{len(widths)}"
        )


@dataclass(frozen=True)
class LucidrainsArchitecture:
    """A generator of lucidrains/stylegan2-pytorch."""

    __pydantic_config__ = ConfigDict(extra="forbid")
    title: ClassVar[str] = "StyleGAN2 of lucidrains' code"
    has_mapping: ClassVar[bool] = True
    can_truncate: ClassVar[bool] = True

    z_dim: int
    num_mapping_layers: int
    widths: tuple[int, ...]
    """Channels of the blocks of 4, 8, … px."""
    attention: tuple[int, ...] = ()
    """Blocks with a layer of attention before them, counted from 0."""
    has_const: bool = True
    """Whether the first map is constant; without, it is made of the mean of `ws`."""
    mapping_lr_mult: float = 0.1
    image_channels: int = 3
    family: Literal["lucidrains"] = "lucidrains"
    num_classes: Literal[0] = 0

    def __post_init__(self) -> None:
        if not 1 <= len(self.widths) <= 11:
            raise ValueError(f"widths: must be from 1 to 11, got {len(self.widths)}")
        _check(
            self.resolution,
            self.widths,
            self.attention,
            z_dim=self.z_dim,
            num_mapping_layers=self.num_mapping_layers,
            image_channels=self.image_channels,
        )
        if not (0 < self.mapping_lr_mult < math.inf):
            raise ValueError(
                f"mapping_lr_mult: must be above 0 and finite, got {self.mapping_lr_mult}"
            )

    @property
    def resolution(self) -> int:
        """Side of the images."""
        return 4 << (len(self.widths) - 1)

    @property
    def w_dim(self) -> int:
        """As wide as `z`."""
        return self.z_dim


@dataclass(frozen=True)
class LucidrainsDiscriminatorArchitecture:
    """A discriminator of lucidrains/stylegan2-pytorch."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    widths: tuple[int, ...]
    """Channels of the blocks, that of the image's size first; all but the last halve the side."""
    attention: tuple[int, ...] = ()
    """Blocks with a layer of attention after them, counted from 0."""
    has_alpha: bool = False
    """Whether it sees a fourth channel."""
    image_channels: int = 3
    family: Literal["lucidrains"] = "lucidrains"
    num_classes: Literal[0] = 0

    def __post_init__(self) -> None:
        if not 2 <= len(self.widths) <= 12:
            raise ValueError(f"widths: must be from 2 to 12, got {len(self.widths)}")
        _check(self.resolution, self.widths, self.attention, image_channels=self.image_channels)

    @property
    def resolution(self) -> int:
        """Side of the images: the last maps have 2 px."""
        return 2 << (len(self.widths) - 1)

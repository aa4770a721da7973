"""Shapes of R3GAN's generator and discriminator (Huang et al. 2024). Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from pydantic import ConfigDict

from pipeline.teacher.architectures.sizes import check_sizes
from pipeline.teacher.architectures.stylegan2 import USUAL_HALF_BLOCKS

BASE_RESOLUTION = 4
MAX_BLOCKS = 64


@dataclass(frozen=True)
class R3GANStage:
    """One resolution: residual blocks of 1x1, grouped k x k and 1x1 convolutions."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    num_channels: int
    num_blocks: int
    num_hidden: int
    """Width between the convolutions of a block."""
    num_groups: int
    kernel: int = 3
    is_half: bool = False
    """Whether it was made for bfloat16, which it computes in where that is asked for."""


class _R3GANNetwork:
    """What generator and discriminator have in common: stages, and ranges."""

    stages: tuple[R3GANStage, ...]
    image_channels: int
    num_classes: int
    embedding_width: int

    @property
    def resolution(self) -> int:
        """Side of the images."""
        return BASE_RESOLUTION << (len(self.stages) - 1)

    def _check(self, **widths: int) -> None:
        if not 2 <= len(self.stages) <= 16:
            raise ValueError(f"stages: an R3GAN has from 2 to 16, got {len(self.stages)}")
        check_sizes(self.resolution, image_channels=self.image_channels, **widths)
        for index, stage in enumerate(self.stages):
            name = f"stages[{index}]"
            hidden, groups = stage.num_hidden, stage.num_groups
            sizes = {f"{name}.num_channels": stage.num_channels, f"{name}.num_hidden": hidden}
            check_sizes(self.resolution, **sizes)
            if not 0 < stage.num_blocks <= MAX_BLOCKS:
                raise ValueError(f"{name}.num_blocks: must be from 1 to {MAX_BLOCKS}")
            if not 0 < groups <= hidden or hidden % groups:
                raise ValueError(f"{name}.num_groups: {groups} do not divide {hidden} channels")
            if stage.kernel not in range(1, 32, 2):
                raise ValueError(f"{name}.kernel: must be odd and below 32, got {stage.kernel}")
        if self.num_classes < 0 or (self.num_classes > 0) != (self.embedding_width > 0):
            raise ValueError("num_classes: classes and the width of their embedding go together")
        if self.num_classes:
            check_sizes(self.resolution, num_classes=self.num_classes)
            check_sizes(self.resolution, embedding_width=self.embedding_width)


@dataclass(frozen=True)
class R3GANArchitecture(_R3GANNetwork):
    """An R3GAN generator (Huang et al. 2024); `stages` from 4 px up."""

    __pydantic_config__ = ConfigDict(extra="forbid")
    title: ClassVar[str] = "R3GAN"
    has_mapping: ClassVar[bool] = False
    can_truncate: ClassVar[bool] = False
    precisions: ClassVar[tuple[str, ...]] = ("float32", "bfloat16")
    """Its maps are not normalised, and may leave the range of float16."""

    z_dim: int
    stages: tuple[R3GANStage, ...]
    image_channels: int = 3
    num_classes: int = 0
    embedding_width: int = 0
    """Of a class, beside the latent; 0 without classes."""
    family: Literal["r3gan"] = "r3gan"

    def __post_init__(self) -> None:
        self._check(z_dim=self.z_dim)

    @property
    def half_stages(self) -> tuple[bool, ...]:
        """Which stages run in bfloat16 where that is asked for: those made for it; where nothing
        says of any, the highest four, as the reference has it.
        """
        if any(stage.is_half for stage in self.stages):
            return tuple(stage.is_half for stage in self.stages)
        first = len(self.stages) - USUAL_HALF_BLOCKS
        return tuple(index >= first for index in range(len(self.stages)))

    @property
    def w_dim(self) -> int:
        """There is no mapped latent: `w` is `z`."""
        return self.z_dim


@dataclass(frozen=True)
class R3GANDiscriminatorArchitecture(_R3GANNetwork):
    """An R3GAN discriminator (Huang et al. 2024); `stages` from the image down to 4 px."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    stages: tuple[R3GANStage, ...]
    image_channels: int = 3
    num_classes: int = 0
    embedding_width: int = 0
    """Of a class, and so outputs of the last layer; 0 without classes."""
    family: Literal["r3gan"] = "r3gan"

    def __post_init__(self) -> None:
        self._check()

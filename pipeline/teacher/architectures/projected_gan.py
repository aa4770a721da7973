"""Shape of Projected GAN's generator (Sauer et al. 2021, cfg `fastgan`). Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from pydantic import ConfigDict

from pipeline.teacher.architectures.fastgan import GatedNetwork
from pipeline.teacher.architectures.sizes import check_sizes


@dataclass(frozen=True)
class ProjectedGANArchitecture(GatedNetwork):
    """A Projected GAN generator of cfg `fastgan` or `fastgan_lite`, 128 to 1024 px."""

    __pydantic_config__ = ConfigDict(extra="forbid")
    title: ClassVar[str] = "Projected GAN"

    z_dim: int
    widths: tuple[int, ...]
    """Channels of the maps of 4, 8, … px."""
    is_lite: bool = False
    """Blocks of one convolution and without noise, in place of two with noise."""
    image_channels: int = 3
    num_classes: int = 0
    family: Literal["projected-gan"] = "projected-gan"

    def __post_init__(self) -> None:
        self._check(128)
        if self.num_classes:
            check_sizes(self.resolution, num_classes=self.num_classes)

    @property
    def full_resolutions(self) -> list[int]:
        """All above 4, or none."""
        return [] if self.is_lite else self.resolutions[1:]

"""Shapes of StyleGAN2 as the code of rosinality/stylegan2-pytorch lays it out. Imports no torch.

The arithmetic is StyleGAN2's (Karras et al. 2020): a skip generator, a residual discriminator, no
clamp, float32. Widths follow a table of that code's own, and z is as wide as w.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from pydantic import ConfigDict

from pipeline.teacher.architectures.sizes import check_sizes

MAX_MAPPING_LAYERS = 64


class _RosinalityNetwork:
    """What generator and discriminator have in common."""

    widths: tuple[int, ...]
    image_channels: int
    conv_clamp: ClassVar[None] = None

    @property
    def resolution(self) -> int:
        """Side of the images."""
        return 2 << len(self.widths)

    def _check(self, **widths: int) -> None:
        if not 2 <= len(self.widths) <= 11:
            raise ValueError(f"widths: of 2 to 11 resolutions from 4 px, got {len(self.widths)}")
        named = {f"widths[{index}]": width for index, width in enumerate(self.widths)}
        check_sizes(self.resolution, image_channels=self.image_channels, **named, **widths)


@dataclass(frozen=True)
class RosinalityArchitecture(_RosinalityNetwork):
    """A StyleGAN2 generator of that code."""

    __pydantic_config__ = ConfigDict(extra="forbid")
    title: ClassVar[str] = "StyleGAN2 of rosinality's code"
    has_mapping: ClassVar[bool] = True
    can_truncate: ClassVar[bool] = True

    w_dim: int
    num_mapping_layers: int
    widths: tuple[int, ...]
    """Channels at 4, 8, … px."""
    image_channels: int = 3
    mapping_lr_mult: float = 0.01
    num_classes: Literal[0] = 0
    family: Literal["stylegan2-rosinality"] = "stylegan2-rosinality"

    def __post_init__(self) -> None:
        self._check(w_dim=self.w_dim)
        if not 0 <= self.num_mapping_layers <= MAX_MAPPING_LAYERS:
            raise ValueError(f"num_mapping_layers: must be from 0 to {MAX_MAPPING_LAYERS}")

    @property
    def z_dim(self) -> int:
        """As wide as `w`."""
        return self.w_dim

    @property
    def num_ws(self) -> int:
        """Copies of `w` that the layers take: two for each resolution."""
        return 2 * len(self.widths)


@dataclass(frozen=True)
class RosinalityDiscriminatorArchitecture(_RosinalityNetwork):
    """A StyleGAN2 discriminator of that code."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    widths: tuple[int, ...]
    """Channels at 4, 8, … px."""
    image_channels: int = 3
    num_classes: Literal[0] = 0
    family: Literal["stylegan2-rosinality"] = "stylegan2-rosinality"

    def __post_init__(self) -> None:
        self._check()

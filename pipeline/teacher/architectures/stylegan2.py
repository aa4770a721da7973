"""Shapes of StyleGAN2's generator and discriminator (Karras et al. 2020). Imports no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

from pydantic import ConfigDict

from pipeline.teacher.architectures.sizes import MAX_WIDTH, check_sizes

Skips = Literal["orig", "skip", "resnet"]
USUAL_HALF_BLOCKS = 4
"""Highest resolutions that the reference runs in half precision, unless told otherwise."""
_LIMITS = {"num_mapping_layers": 64, "num_classes": 4096, "num_half_blocks": 16}


def block_resolutions(resolution: int) -> list[int]:
    """Resolutions of a StyleGAN2's blocks: 4, 8, … `resolution`."""
    return [2**k for k in range(2, int(math.log2(resolution)) + 1)]


def runs_in_half(block: int, resolution: int, num_half_blocks: int) -> bool:
    """Whether the block of resolution `block` is among the `num_half_blocks` highest, from 8."""
    return block >= 8 and block * 2**num_half_blocks > resolution


class _StyleGAN2Network:
    """What generator and discriminator have in common: widths by resolution, and ranges."""

    resolution: int
    channel_base: int
    channel_max: int
    image_channels: int

    def num_channels(self, resolution: int) -> int:
        """Width of the block at `resolution`: min(base // resolution, max)."""
        return max(1, min(self.channel_base // resolution, self.channel_max))

    def _check(self, **widths: int) -> None:
        check_sizes(
            self.resolution,
            channel_base=min(self.channel_base, MAX_WIDTH),  # the base itself is no width
            channel_max=self.channel_max,
            image_channels=self.image_channels,
            **widths,
        )
        if self.resolution < 8 or self.resolution & (self.resolution - 1):
            raise ValueError(
                f"resolution: must be a power of two of at least 8, got {self.resolution}"
            )
        for name, limit in _LIMITS.items():
            if not 0 <= getattr(self, name) <= limit:
                raise ValueError(f"{name}: must be from 0 to {limit}, got {getattr(self, name)}")
        for name in ("conv_clamp", "mapping_lr_mult"):
            value = getattr(self, name)
            is_number = isinstance(value, (int, float))  # not yet so when it comes from a file
            if value is not None and not (is_number and 0 < value < math.inf):
                raise ValueError(f"{name}: must be above 0 and finite, got {value}")


@dataclass(frozen=True)
class StyleGAN2Architecture(_StyleGAN2Network):
    """A StyleGAN2 generator (Karras et al. 2020)."""

    __pydantic_config__ = ConfigDict(extra="forbid")  # an unknown field is another architecture
    title: ClassVar[str] = "StyleGAN2"
    has_mapping: ClassVar[bool] = True
    can_truncate: ClassVar[bool] = True

    resolution: int
    z_dim: int
    w_dim: int
    num_mapping_layers: int
    channel_base: int
    channel_max: int
    image_channels: int = 3
    num_classes: int = 0
    skips: Skips = "skip"
    """`skip`: every block adds to the image; `resnet`: residual blocks; `orig`: neither."""
    conv_clamp: float | None = None
    mapping_lr_mult: float = 0.01
    num_half_blocks: int = 0
    """Highest resolutions to run in half precision where that is asked for; 0: nothing says, the
    reference's four."""
    family: Literal["stylegan2"] = "stylegan2"

    def __post_init__(self) -> None:
        self._check(z_dim=self.z_dim, w_dim=self.w_dim)

    @property
    def block_resolutions(self) -> list[int]:
        """Resolutions of the synthesis blocks, 4 first."""
        return block_resolutions(self.resolution)

    @property
    def num_ws(self) -> int:
        """Copies of `w` that the synthesis network takes: 2 log2(resolution) - 2."""
        return 2 * int(math.log2(self.resolution)) - 2


@dataclass(frozen=True)
class StyleGAN2DiscriminatorArchitecture(_StyleGAN2Network):
    """A StyleGAN2 discriminator (Karras et al. 2020)."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    resolution: int
    channel_base: int
    channel_max: int
    image_channels: int = 3
    num_classes: int = 0
    skips: Skips = "orig"
    """`skip`: every block sees the image; `resnet`: residual blocks; `orig`: neither."""
    conv_clamp: float | None = None
    mbstd_group_size: int | None = 32
    """Samples per group of the minibatch standard deviation; None takes the whole batch."""
    num_half_blocks: int = 0
    num_mapping_layers: int = 8
    """Layers that map the label's embedding; only where there are classes."""
    mapping_lr_mult: float = 0.01
    mapping_width: int | None = None
    """Width of the mapped label; None: that of the 4-px block."""
    family: Literal["stylegan2"] = "stylegan2"

    def __post_init__(self) -> None:
        self._check(
            mbstd_group_size=1 if self.mbstd_group_size is None else self.mbstd_group_size,
            mapping_width=self.mapping_width or 1,
        )

    @property
    def block_resolutions(self) -> list[int]:
        """Resolutions of the blocks above the 4-px one, highest first."""
        return block_resolutions(self.resolution)[:0:-1]

    @property
    def num_outputs(self) -> int:
        """Width of the last layer: 1, or that of the mapped label it is multiplied with."""
        return (self.mapping_width or self.num_channels(4)) if self.num_classes else 1

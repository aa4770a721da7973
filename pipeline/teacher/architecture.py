"""Shapes of the networks a teacher may have, as plain data: enough to build them. Imports no torch.

Each family of generators has one frozen dataclass here and one module that builds it
(`networks/stylegan2.py`, `networks/dcgan.py`, `networks/module.py`). `description.py` stores them
in `teacher.json`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

Skips = Literal["orig", "skip", "resnet"]

MAX_WIDTH = 1 << 16
MAX_RESOLUTION = 1 << 12
_LIMITS = {"num_mapping_layers": 64, "num_classes": 4096, "num_half_blocks": 16}


def _check_sizes(resolution: int, **sizes: int) -> None:
    for name, size in sizes.items():
        if not 0 < size <= MAX_WIDTH:
            raise ValueError(f"{name}: must be from 1 to {MAX_WIDTH}, got {size}")
    if not 1 < resolution <= MAX_RESOLUTION:
        raise ValueError(f"resolution: must be from 2 to {MAX_RESOLUTION}, got {resolution}")


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
        _check_sizes(
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
    """Highest resolutions made for half precision; float32 everywhere unless that is asked for."""
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
class DiscriminatorArchitecture(_StyleGAN2Network):
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


@dataclass(frozen=True)
class TransposedLayer:
    """One transposed convolution of a DCGAN, with what follows it."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    num_channels: int
    kernel: int
    stride: int
    padding: int
    output_padding: int = 0
    has_bias: bool = False
    has_norm: bool = True

    def grow(self, resolution: int) -> int:
        """Side of the output for an input of side `resolution`."""
        return (resolution - 1) * self.stride - 2 * self.padding + self.kernel + self.output_padding


@dataclass(frozen=True)
class DCGANArchitecture:
    """A DCGAN generator (Radford et al. 2016): transposed convolutions, the last for the image."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    z_dim: int
    layers: tuple[TransposedLayer, ...]
    family: Literal["dcgan"] = "dcgan"
    num_classes: Literal[0] = 0

    def __post_init__(self) -> None:
        if not 2 <= len(self.layers) <= 64:
            raise ValueError("layers: a DCGAN has from 2 to 64")
        side = 1
        for index, layer in enumerate(self.layers):
            name = f"layers[{index}]"
            _check_sizes(2, **{f"{name}.num_channels": layer.num_channels, "z_dim": self.z_dim})
            if not (0 < layer.kernel <= 64 and 0 < layer.stride <= 64 and layer.padding >= 0):
                raise ValueError(f"{name}: kernel, stride or padding out of range")
            if not 0 <= layer.output_padding < layer.stride:
                raise ValueError(f"{name}.output_padding: must be smaller than the stride")
            side = layer.grow(side)
            if not 0 < side <= MAX_RESOLUTION:
                raise ValueError(f"{name}: makes images of {side} px; check strides and paddings")

    @property
    def resolution(self) -> int:
        """Side of the images."""
        side = 1
        for layer in self.layers:
            side = layer.grow(side)
        return side

    @property
    def image_channels(self) -> int:
        """Channels of the images."""
        return self.layers[-1].num_channels

    @property
    def w_dim(self) -> int:
        """A DCGAN has no mapped latent: `w` is `z`."""
        return self.z_dim


@dataclass(frozen=True)
class ModuleArchitecture:
    """Somebody's own module: what it takes and makes. The code is named by `teacher.factory`."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    resolution: int
    z_dim: int
    blocks: tuple[str, ...]
    """Names of the submodules whose outputs are the block features, in order."""
    image_channels: int = 3
    num_classes: int = 0
    arguments: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments of the factory."""
    family: Literal["module"] = "module"

    def __post_init__(self) -> None:
        _check_sizes(self.resolution, z_dim=self.z_dim, image_channels=self.image_channels)
        if not self.blocks:
            raise ValueError("blocks: name at least one submodule")

    @property
    def w_dim(self) -> int:
        """There is no mapped latent: `w` is `z`."""
        return self.z_dim


GeneratorArchitecture = StyleGAN2Architecture | DCGANArchitecture | ModuleArchitecture
AnyGeneratorArchitecture = Annotated[GeneratorArchitecture, Field(discriminator="family")]
"""For pydantic: which of them is said by the field `family`."""

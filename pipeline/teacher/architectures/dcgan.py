"""Shapes of a DCGAN's generator and discriminator (Radford et al. 2016). Imports no torch."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar, Literal

from pydantic import ConfigDict

from pipeline.teacher.architectures.sizes import MAX_RESOLUTION, check_sizes


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
    title: ClassVar[str] = "DCGAN"
    has_mapping: ClassVar[bool] = False
    can_truncate: ClassVar[bool] = False

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
            check_sizes(2, **{f"{name}.num_channels": layer.num_channels, "z_dim": self.z_dim})
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
class NamedLayer:
    """A layer under the module paths of the source, "" for a module that it has not."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    layer: TransposedLayer
    conv: str
    norm: str
    activation: str
    """None after the last convolution, whose activation is fixed."""


@dataclass(frozen=True)
class NamedDCGANArchitecture:
    """A DCGAN generator (Radford et al. 2016) whose features have the names of the source.

    `DCGANArchitecture` is the same network under names of our own; pools are keyed by it.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")
    title: ClassVar[str] = "DCGAN"
    has_mapping: ClassVar[bool] = False
    can_truncate: ClassVar[bool] = False

    z_dim: int
    layers: tuple[NamedLayer, ...]
    family: Literal["dcgan-named"] = "dcgan-named"
    num_classes: Literal[0] = 0

    def __post_init__(self) -> None:
        self.unnamed()
        check_paths(self.layers)

    def unnamed(self) -> DCGANArchitecture:
        """Without the names."""
        return DCGANArchitecture(self.z_dim, tuple(named.layer for named in self.layers))

    @property
    def resolution(self) -> int:
        """Side of the images."""
        return self.unnamed().resolution

    @property
    def image_channels(self) -> int:
        """Channels of the images."""
        return self.unnamed().image_channels

    @property
    def w_dim(self) -> int:
        """A DCGAN has no mapped latent: `w` is `z`."""
        return self.z_dim


@dataclass(frozen=True)
class DCGANDiscriminatorArchitecture:
    """A DCGAN discriminator: convolutions, the last of which sees all that is left."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    resolution: int
    image_channels: int
    layers: tuple[NamedLayer, ...]
    """`num_channels` are those that come out; `output_padding` is 0."""
    family: Literal["dcgan-named"] = "dcgan-named"
    num_classes: Literal[0] = 0

    def __post_init__(self) -> None:
        if not 2 <= len(self.layers) <= 64:
            raise ValueError("layers: a DCGAN has from 2 to 64")
        check_sizes(self.resolution, image_channels=self.image_channels)
        side = self.resolution
        for index, named in enumerate(self.layers):
            name, layer = f"layers[{index}]", named.layer
            check_sizes(2, **{f"{name}.num_channels": layer.num_channels})
            if not (0 < layer.kernel <= 64 and 0 < layer.stride <= 64 and layer.padding >= 0):
                raise ValueError(f"{name}: kernel, stride or padding out of range")
            side = (side + 2 * layer.padding - layer.kernel) // layer.stride + 1
            if side < 1:
                raise ValueError(f"{name}: nothing is left of images of {self.resolution} px")
        if side != 1 or self.layers[-1].layer.num_channels != 1:
            raise ValueError("layers: the last must make one number of an image")
        check_paths(self.layers)


def check_paths(layers: tuple[NamedLayer, ...]) -> None:
    """Raise ValueError unless the layers' names can be those of modules, none within another."""
    names = [name for each in layers for name in (each.conv, each.norm, each.activation) if name]
    taken = set(names)
    for name in names:
        if not re.fullmatch(r"\w{1,64}(\.\w{1,64}){0,8}", name, re.ASCII):
            raise ValueError(f"layers: {name[:80]!a} is no path of a module")
        parts = name.split(".")
        if any(".".join(parts[:end]) in taken for end in range(1, len(parts))):
            raise ValueError(f"layers: {name!a} is within another layer")
    if len(taken) < len(names):
        raise ValueError("layers: duplicate name")

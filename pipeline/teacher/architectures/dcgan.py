"""Shape of a DCGAN's generator (Radford et al. 2016). Imports no torch."""

from __future__ import annotations

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

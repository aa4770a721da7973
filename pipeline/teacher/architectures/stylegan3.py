"""Shape of StyleGAN3's generator (Karras et al. 2021), and of StyleGAN-XL's stem (Sauer et al.
2022), which has another mapping. Imports no torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Literal

from pydantic import ConfigDict

from pipeline.teacher.architectures.sizes import MAX_RESOLUTION, check_sizes
from pipeline.teacher.architectures.stylegan2 import USUAL_HALF_BLOCKS

MAX_LAYERS = 64
MAX_FACTOR = 16
MAX_TAPS = 256


@dataclass(frozen=True)
class StyleGAN3Input:
    """The Fourier features that the synthesis begins with."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    num_channels: int
    size: int
    """Side of the map, margins included."""
    sampling_rate: float
    """Pixels per image side: rates and frequencies are those of the unit square."""
    bandwidth: float
    """Frequency up to which features keep their full amplitude."""


@dataclass(frozen=True)
class StyleGAN3Layer:
    """One synthesis layer: modulated convolution, then leaky ReLU at a higher sampling rate."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    num_channels: int
    size: int
    """Side of its output, margins included."""
    kernel: int
    up: int
    up_taps: int
    """Of the filter that raises the sampling rate; 1: there is none."""
    down: int
    down_taps: int
    padding: tuple[int, int]
    """Zeros before and after the raised map, in its pixels; negative: pixels cut off."""
    is_radial: bool = False
    """Whether the filter that lowers the rate is of two dimensions, not separable."""
    conv_clamp: float | None = None
    is_half: bool = False
    """Whether it was made for half precision, which it computes in where that is asked for."""

    @property
    def tile_shift(self) -> int:
        """Outputs after which filters meet their input in the same way: the least there are."""
        shift = 1
        while shift * self.down % self.up:
            shift += 1
        return shift

    def output_size(self, in_size: int) -> int:
        """Side of what it makes of maps of side `in_size`."""
        raised = (in_size + self.kernel - 1) * self.up + sum(self.padding) - self.up_taps + 1
        return (raised - self.down_taps) // self.down + 1

    def check(self, name: str, in_size: int) -> None:
        """Raise ValueError unless it can be computed, and makes maps of side `size`."""
        for factor, taps, kind in (
            (self.up, self.up_taps, "up"),
            (self.down, self.down_taps, "down"),
        ):
            if not (0 < factor <= MAX_FACTOR and factor <= taps <= MAX_TAPS):
                raise ValueError(f"{name}.{kind}: factor {factor} with {taps} taps is out of range")
        if not 0 < self.kernel < 32:
            raise ValueError(f"{name}.kernel: must be from 1 to 31, got {self.kernel}")
        if self.conv_clamp is not None and not 0 < self.conv_clamp < float("inf"):
            raise ValueError(f"{name}.conv_clamp: must be above 0, got {self.conv_clamp}")
        if max(map(abs, self.padding)) > MAX_FACTOR * MAX_RESOLUTION:
            raise ValueError(f"{name}.padding: {list(self.padding)} is out of range")
        if (found := self.output_size(in_size)) != self.size:
            raise ValueError(f"{name}: makes maps of {found} px, described as {self.size}")


@dataclass(frozen=True)
class StyleGAN3Architecture:
    """A StyleGAN3 generator, of configuration T or R, or StyleGAN-XL's stem."""

    __pydantic_config__ = ConfigDict(extra="forbid")
    title: ClassVar[str] = "StyleGAN3"
    has_mapping: ClassVar[bool] = True
    can_truncate: ClassVar[bool] = True

    z_dim: int
    w_dim: int
    num_mapping_layers: int
    input: StyleGAN3Input
    layers: tuple[StyleGAN3Layer, ...]
    """The last makes the image."""
    num_classes: int = 0
    class_width: int = 0
    """StyleGAN-XL: width of a class in its fixed embedding, and classes have a mean `w` each; 0:
    the labels are embedded as StyleGAN3 does, and all share one mean."""
    mapping_lr_mult: float = 0.01
    output_scale: float = 0.25
    family: Literal["stylegan3"] = "stylegan3"

    def __post_init__(self) -> None:
        if not 2 <= len(self.layers) <= MAX_LAYERS:
            raise ValueError(f"layers: must be from 2 to {MAX_LAYERS}, got {len(self.layers)}")
        if not 0 <= self.num_mapping_layers <= MAX_LAYERS:
            raise ValueError(f"num_mapping_layers: must be from 0 to {MAX_LAYERS}")
        widths = {"z_dim": self.z_dim, "w_dim": self.w_dim}
        for name in ("num_classes", "class_width"):
            if getattr(self, name) != 0:
                widths[name] = getattr(self, name)
        check_sizes(self.resolution, **widths)
        if self.class_width and not self.num_classes:
            raise ValueError("class_width: there are no classes")
        for name in ("mapping_lr_mult", "output_scale"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(f"{name}: must be above 0 and finite")
        start = self.input
        if not 0 < start.bandwidth < start.sampling_rate / 2 < float("inf"):
            raise ValueError("input: its bandwidth must be below half of its sampling rate")
        parts: list[tuple[str, StyleGAN3Input | StyleGAN3Layer]] = [("input", start)]
        parts += [(f"layers[{index}]", layer) for index, layer in enumerate(self.layers)]
        for name, part in parts:
            check_sizes(part.size, **{f"{name}.num_channels": part.num_channels})
        for (_, before), (name, layer) in pairwise(parts):
            assert isinstance(layer, StyleGAN3Layer)
            layer.check(name, before.size)
        last = self.layers[-1]
        if (last.up_taps, last.down_taps) != (1, 1):
            raise ValueError(f"{name}: the layer of the image has no filters")

    @property
    def resolution(self) -> int:
        """Side of the images."""
        return self.layers[-1].size

    @property
    def image_channels(self) -> int:
        """Channels of the images."""
        return self.layers[-1].num_channels

    @property
    def num_ws(self) -> int:
        """Copies of `w`: one for the input, and one for every layer."""
        return len(self.layers) + 1

    @property
    def half_layers(self) -> tuple[bool, ...]:
        """Which layers run in half precision where that is asked for: those made for it; where
        nothing says of any, those of the highest sampling rates, as the reference has it.
        """
        if any(layer.is_half for layer in self.layers):
            return tuple(layer.is_half for layer in self.layers)
        rate, found = self.input.sampling_rate, []
        for layer in self.layers:
            rate *= layer.up / layer.down
            found.append(rate * 2**USUAL_HALF_BLOCKS > self.resolution)
        return tuple(found)

    @property
    def layer_names(self) -> list[str]:
        """As the checkpoints have them."""
        return [f"L{i}_{layer.size}_{layer.num_channels}" for i, layer in enumerate(self.layers)]

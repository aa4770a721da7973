"""What a checkpoint to be written holds: its pair of networks, and how the file describes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from tests.support.reference_networks import ReferenceArchitecture

State = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class OfficialSpec(ReferenceArchitecture):
    """A pair of networks and how a file describes them."""

    w_dim: int = 20
    img_channels: int = 3
    channel_base: int = 128
    channel_max: int = 16
    discriminator_channel_base: int | None = None
    """None: that of the generator; likewise for the maximum."""
    discriminator_channel_max: int | None = None
    label_width: int | None = None
    """Width of the discriminator's mapped label; None: that of its 4-px block."""
    num_fp16_res: int = 0
    freeze_layers: int = 0
    """The discriminator's first layers hold their weights in `_buffers`."""
    has_discriminator: bool = True
    omits_defaults: bool = False
    """Constructor arguments that equal the official defaults are left out."""
    has_lod_names: bool = False
    """TensorFlow only: `ToRGB_lod*`, `FromRGB_lod*`; a file with those is always `orig`, and only
    lod 0 is used."""

    def num_generator_channels(self, resolution: int) -> int:
        return min(self.channel_base // resolution, self.channel_max)

    def num_discriminator_channels(self, resolution: int) -> int:
        base = self.discriminator_channel_base or self.channel_base
        return min(base // resolution, self.discriminator_channel_max or self.channel_max)

    def uses_half(self, resolution: int) -> bool:
        return resolution >= max(2 * self.resolution >> self.num_fp16_res, 8)

    @property
    def mapped_label_width(self) -> int:
        """`cmap_dim`: 0 without classes."""
        if not self.num_classes:
            return 0
        return self.label_width or self.num_discriminator_channels(4)


def stated(spec: OfficialSpec, **arguments: tuple[Any, Any]) -> dict[str, Any]:
    """The arguments (value, official default) that the file states."""
    return {
        name: value
        for name, (value, default) in arguments.items()
        if not (spec.omits_defaults and value == default)
    }

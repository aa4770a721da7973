"""DCGAN generator (Radford et al. 2016): transposed convolutions, of any depth and width.

Neighbour: `importing/state_dicts.py` fills it from an ordinary state dict, whatever its names.
"""

from __future__ import annotations

from torch import Tensor, nn

from pipeline.teacher.architectures.dcgan import DCGANArchitecture, TransposedLayer
from pipeline.teacher.interface import UnmappedGenerator


class DCGANBlock(nn.Module):
    """Transposed convolution, batch normalisation where there is one, ReLU (tanh in the last)."""

    def __init__(self, in_channels: int, layer: TransposedLayer, *, is_last: bool) -> None:
        super().__init__()
        self.is_last = is_last
        self.conv = nn.ConvTranspose2d(
            in_channels,
            layer.num_channels,
            layer.kernel,
            layer.stride,
            layer.padding,
            layer.output_padding,
            bias=layer.has_bias,
        )
        self.norm = nn.BatchNorm2d(layer.num_channels) if layer.has_norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """[B, I, r, r] -> [B, O, r', r']."""
        x = self.norm(self.conv(x))
        return x.tanh() if self.is_last else x.relu()


class DCGANGenerator(UnmappedGenerator):
    """Latents [B, z_dim] -> images; every layer but the last is a block."""

    def __init__(self, arch: DCGANArchitecture) -> None:
        super().__init__()
        self.arch = arch
        widths = [arch.z_dim, *(layer.num_channels for layer in arch.layers)]
        last = len(arch.layers) - 1
        for index, layer in enumerate(arch.layers):
            block = DCGANBlock(widths[index], layer, is_last=index == last)
            self.add_module("torgb" if index == last else f"block{index}", block)
        self.blocks = [f"block{index}" for index in range(last)]

    def synthesise(self, z: Tensor, labels: Tensor | None) -> Tensor:
        """[B, z_dim] -> [B, C, R, R]; a DCGAN has no classes."""
        x = z[:, :, None, None]
        for block in self.children():
            x = block(x)
        return x

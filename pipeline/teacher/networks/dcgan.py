"""DCGAN (Radford et al. 2016), of any depth and width: under our names, or under the source's.

Neighbours: `importing/dcgan_described.py` and `importing/dcgan.py` fill them from state dicts.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn

from pipeline.teacher.architectures.dcgan import (
    DCGANArchitecture,
    DCGANDiscriminatorArchitecture,
    NamedDCGANArchitecture,
    NamedLayer,
    TransposedLayer,
)
from pipeline.teacher.interface import TeacherDiscriminator, UnmappedGenerator

LEAKY_SLOPE = 0.2


class DCGANBlock(nn.Module):
    """Transposed convolution, batch normalisation where there is one, ReLU (tanh in the last)."""

    def __init__(self, in_channels: int, layer: TransposedLayer, *, is_last: bool) -> None:
        super().__init__()
        self.is_last = is_last
        self.conv = _transposed(in_channels, layer)
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


class NamedDCGANGenerator(UnmappedGenerator):
    """Latents [B, z_dim] -> images; the blocks are the outputs of the ReLUs."""

    def __init__(self, arch: NamedDCGANArchitecture) -> None:
        super().__init__()
        self.arch: NamedDCGANArchitecture = arch
        self.module = nn.Module()
        in_channels = arch.z_dim
        for named in arch.layers:
            layer = named.layer
            _place(self.module, named.conv, _transposed(in_channels, layer))
            if named.norm:
                _place(self.module, named.norm, nn.BatchNorm2d(layer.num_channels))
            if named.activation:
                _place(self.module, named.activation, nn.ReLU())
            in_channels = layer.num_channels
        self.blocks = [named.activation for named in arch.layers if named.activation]

    @property
    def feature_root(self) -> nn.Module:
        """What has the source's names."""
        return self.module

    def synthesise(self, z: Tensor, labels: Tensor | None) -> Tensor:
        """[B, z_dim] -> [B, C, R, R]; a DCGAN has no classes."""
        x = z[:, :, None, None]
        for module in _in_order(self.module, self.arch.layers):
            x = module(x)
        return x.tanh()


class DCGANDiscriminator(TeacherDiscriminator):
    """Images [B, C, R, R] in [-1, 1] -> logits [B, 1]; the blocks are the outputs of the leaky
    ReLUs, the last of them apart.
    """

    def __init__(self, arch: DCGANDiscriminatorArchitecture) -> None:
        super().__init__()
        self.arch: DCGANDiscriminatorArchitecture = arch
        self.module = nn.Module()
        in_channels = arch.image_channels
        for named in arch.layers:
            layer = named.layer
            conv = nn.Conv2d(
                in_channels,
                layer.num_channels,
                layer.kernel,
                layer.stride,
                layer.padding,
                bias=layer.has_bias,
            )
            _place(self.module, named.conv, conv)
            if named.norm:
                _place(self.module, named.norm, nn.BatchNorm2d(layer.num_channels))
            if named.activation:
                _place(self.module, named.activation, nn.LeakyReLU(LEAKY_SLOPE))
            in_channels = layer.num_channels
        *self.blocks, self.last = (n.activation for n in arch.layers if n.activation)

    @property
    def feature_root(self) -> nn.Module:
        """What has the source's names."""
        return self.module

    def forward(self, image: Tensor, labels: Tensor | None = None) -> Tensor:
        """Logits [B, 1], larger means more real: what the source gives to its sigmoid."""
        x = image
        for module in _in_order(self.module, self.arch.layers):
            x = module(x)
        return x.flatten(1)


def _transposed(in_channels: int, layer: TransposedLayer) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(
        in_channels,
        layer.num_channels,
        layer.kernel,
        layer.stride,
        layer.padding,
        layer.output_padding,
        bias=layer.has_bias,
    )


def _place(root: nn.Module, path: str, module: nn.Module) -> None:
    """Make `module` the submodule `path` of `root`, and what is above it where there is nothing."""
    *above, name = path.split(".")
    for part in above:
        if part not in root._modules:
            root.add_module(part, nn.Module())
        root = root.get_submodule(part)
    root.add_module(name, module)


def _in_order(root: nn.Module, layers: tuple[NamedLayer, ...]) -> Iterator[nn.Module]:
    for named in layers:
        for path in (named.conv, named.norm, named.activation):
            if path:
                yield root.get_submodule(path)

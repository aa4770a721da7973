"""BigGAN's generator and discriminator (Brock et al. 2019), with BigGAN-PyTorch's names of modules.

Written from the paper and from what such checkpoints hold. A trained network's spectral norms are
constants, so that weights here are divided by them already; `importing/biggan.py` does it. Class
embeddings are linear maps of one-hot labels. Neighbours: `biggan_deep.py`, `nearest.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.teacher.architectures.biggan import (
    BigGANArchitecture,
    BigGANDiscriminatorArchitecture,
)
from pipeline.teacher.interface import (
    TeacherDiscriminator,
    UnmappedGenerator,
    check_labels,
)
from pipeline.teacher.networks.attention import Attention
from pipeline.teacher.networks.nearest import RepeatedConv, repeat_pixels

_LAST_EPS = 1e-5


class ConditionalNorm(nn.Module):
    """Batch normalisation by stored statistics, scaled by 1 + gain(y) and shifted by bias(y)."""

    def __init__(self, num_channels: int, condition_dim: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.gain = nn.Linear(condition_dim, num_channels, bias=False)
        self.bias = nn.Linear(condition_dim, num_channels, bias=False)
        self.register_buffer("stored_mean", torch.zeros(num_channels))
        self.register_buffer("stored_var", torch.ones(num_channels))
        self.stored_mean: Tensor
        self.stored_var: Tensor

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """[B, C, r, r], condition [B, D] -> [B, C, r, r]."""
        scale = (1 + self.gain(condition)) * (self.stored_var + self.eps).rsqrt()
        shift = self.bias(condition) - self.stored_mean * scale
        return torch.addcmul(shift[:, :, None, None], x, scale[:, :, None, None])


class Norm(nn.Module):
    """Batch normalisation by stored statistics."""

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(num_channels))
        self.bias = nn.Parameter(torch.zeros(num_channels))
        self.register_buffer("stored_mean", torch.zeros(num_channels))
        self.register_buffer("stored_var", torch.ones(num_channels))
        self.stored_mean: Tensor
        self.stored_var: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, r, r] -> [B, C, r, r]."""
        statistics = self.stored_mean, self.stored_var
        return F.batch_norm(x, *statistics, self.gain, self.bias, eps=_LAST_EPS)


class GeneratorBlock(nn.Module):
    """Two normalised 3x3 convolutions, the first of the doubled map, beside a 1x1 shortcut."""

    def __init__(self, in_channels: int, out_channels: int, arch: BigGANArchitecture) -> None:
        super().__init__()
        self.conv1 = RepeatedConv(in_channels, out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.conv_sc = nn.Conv2d(in_channels, out_channels, 1)
        self.bn1 = ConditionalNorm(in_channels, arch.condition_dim, arch.bn_eps)
        self.bn2 = ConditionalNorm(out_channels, arch.condition_dim, arch.bn_eps)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """[B, I, r, r], condition [B, D] -> [B, O, 2r, 2r]."""
        h = self.conv1(F.relu(self.bn1(x, condition)))
        h = self.conv2(F.relu(self.bn2(h, condition)))
        doubled: Tensor = h + repeat_pixels(self.conv_sc(x))  # the shortcut of the doubled map
        return doubled


class GeneratorNetwork(nn.Module):
    """A BigGAN's generator itself."""

    def __init__(self, arch: BigGANArchitecture) -> None:
        super().__init__()
        self.arch = arch
        if arch.shared_dim:
            self.shared = nn.Linear(arch.num_classes, arch.shared_dim, bias=False)
        first = arch.widths[0] * arch.first_side**2
        self.linear = nn.Linear(arch.z_dim // arch.num_parts, first)
        self.blocks = nn.ModuleList()
        for index, (width, out_width) in enumerate(pairwise(arch.widths)):
            layers: list[nn.Module] = [GeneratorBlock(width, out_width, arch)]
            if index in arch.attention:
                layers.append(Attention(out_width))
            self.blocks.append(nn.ModuleList(layers))
        last = arch.widths[-1]
        self.output_layer = nn.Sequential(
            Norm(last), nn.ReLU(), nn.Conv2d(last, arch.image_channels, 3, padding=1)
        )

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        """`z` [B, z_dim], `labels` [B, num_classes] -> images [B, C, R, R]."""
        arch = self.arch
        first, *rest = z.chunk(arch.num_parts, 1)
        condition = self.shared(labels) if arch.shared_dim else labels
        x = self.linear(first).unflatten(1, (arch.widths[0], arch.first_side, arch.first_side))
        for index in range(arch.num_blocks):
            parts = [condition, rest[index]] if rest else [condition]
            x = self.get_submodule(f"blocks.{index}.0")(x, torch.cat(parts, 1))
            if index in arch.attention:
                x = self.get_submodule(f"blocks.{index}.1")(x)
        image: Tensor = self.output_layer(x)
        return image.tanh()


class BigGANGenerator(UnmappedGenerator):
    """Latents and labels -> images; every block and every attention layer is a block feature."""

    def __init__(self, arch: BigGANArchitecture) -> None:
        super().__init__()
        self.arch: BigGANArchitecture = arch
        self.network = GeneratorNetwork(arch)
        self.blocks = _name_layers(arch.num_blocks, arch.attention)

    @property
    def feature_root(self) -> nn.Module:
        """Feature names are those of the network's modules."""
        return self.network

    def synthesise(self, z: Tensor, labels: Tensor | None) -> Tensor:
        """[B, z_dim] and [B, num_classes] -> [B, C, R, R] in [-1, 1].

        Raises:
            ValueError: without labels, or of another width.
        """
        check_labels(labels, self.arch.num_classes)
        image: Tensor = self.network(z, labels)
        return image


class DiscriminatorBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut, perhaps halved by averaging."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        is_first: bool,
        is_halving: bool,
        is_wide: bool,
    ) -> None:
        super().__init__()
        hidden = out_channels if is_wide else in_channels
        self.is_first = is_first
        self.is_halving = is_halving
        self.conv1 = nn.Conv2d(in_channels, hidden, 3, padding=1)
        self.conv2 = nn.Conv2d(hidden, out_channels, 3, padding=1)
        self.conv_sc = (
            nn.Conv2d(in_channels, out_channels, 1)
            if is_halving or in_channels != out_channels
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        """[B, I, r, r] -> [B, O, r, r] or [B, O, r/2, r/2]."""
        h: Tensor = self.conv2(F.relu(self.conv1(x if self.is_first else F.relu(x))))
        if self.is_halving:
            h, x = F.avg_pool2d(h, 2), F.avg_pool2d(x, 2)
        return h + (x if self.conv_sc is None else self.conv_sc(x))


class DiscriminatorNetwork(nn.Module):
    """A BigGAN's discriminator itself."""

    def __init__(self, arch: BigGANDiscriminatorArchitecture) -> None:
        super().__init__()
        self.layers = _name_layers(len(arch.widths), arch.attention)
        self.blocks = nn.ModuleList()
        for index, (width, out_width) in enumerate(pairwise((arch.image_channels, *arch.widths))):
            block = DiscriminatorBlock(
                width,
                out_width,
                is_first=index == 0,
                is_halving=index < arch.num_halvings,
                is_wide=arch.is_wide,
            )
            layers: list[nn.Module] = [block]
            if index in arch.attention:
                layers.append(Attention(out_width))
            self.blocks.append(nn.ModuleList(layers))
        self.activation = nn.ReLU()
        self.linear = nn.Linear(arch.widths[-1], 1)
        self.embed = nn.Linear(arch.num_classes, arch.widths[-1], bias=False)

    def forward(self, image: Tensor, labels: Tensor | None) -> Tensor:
        """Images [B, C, R, R], `labels` [B, num_classes] or None -> logits [B, 1]."""
        x = image
        for name in self.layers:
            x = self.get_submodule(name)(x)
        features: Tensor = self.activation(x).sum((2, 3))
        logits: Tensor = self.linear(features)
        if labels is not None:
            logits = logits + (self.embed(labels) * features).sum(1, keepdim=True)
        return logits


class BigGANDiscriminator(TeacherDiscriminator):
    """Images -> logits, which compare with the class (Miyato and Koyama 2018).

    Features do not depend on labels. Without them, or with zeros, a logit is that of an image of no
    class in particular: the term that compares is left out.
    """

    last = "activation"

    def __init__(self, arch: BigGANDiscriminatorArchitecture) -> None:
        super().__init__()
        self.arch = arch
        self.network = DiscriminatorNetwork(arch)
        self.blocks = self.network.layers

    @property
    def feature_root(self) -> nn.Module:
        """Feature names are those of the network's modules."""
        return self.network

    def forward(self, image: Tensor, labels: Tensor | None = None) -> Tensor:
        """See `TeacherDiscriminator.forward`; labels may be left out.

        Raises:
            ValueError: for labels of another width.
        """
        if labels is not None:
            check_labels(labels, self.arch.num_classes)
        logits: Tensor = self.network(image, labels)
        return logits


def _name_layers(num_blocks: int, attention: Sequence[int]) -> list[str]:
    """`blocks.I.0` for every block, followed by `blocks.I.1` where there is attention."""
    return [
        f"blocks.{index}.{place}"
        for index in range(num_blocks)
        for place in range(1 + (index in attention))
    ]

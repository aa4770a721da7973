"""R3GAN: a generator and a discriminator of residual blocks without normalisation (Huang et al.
2024, "The GAN is dead; long live the GAN!", section 4).

Names of modules and parameters are those of the checkpoints of brownvc/R3GAN, which the features
have, too. Neighbour: `importing/r3gan.py` fills both.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.teacher.architectures.r3gan import (
    BASE_RESOLUTION,
    R3GANArchitecture,
    R3GANDiscriminatorArchitecture,
    R3GANStage,
)
from pipeline.teacher.interface import TeacherDiscriminator, UnmappedGenerator, check_labels
from pipeline.teacher.networks.fir import downsample_image, resample_filter, upsample_image
from pipeline.teacher.networks.layers import LEAKY_SLOPE


class Convolution(nn.Module):
    """Convolution without bias, computed in the type of its input."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int = 1, groups: int = 1):
        super().__init__()
        self.Layer = nn.Conv2d(
            in_channels, out_channels, kernel, padding=kernel // 2, groups=groups, bias=False
        )

    def forward(self, x: Tensor) -> Tensor:
        """[B, I, r, r] -> [B, O, r, r]."""
        layer = self.Layer
        weight = layer.weight.to(x.dtype)
        return F.conv2d(x, weight, padding=layer.padding, groups=layer.groups)


class BiasedActivation(nn.Module):
    """Leaky ReLU of `x + Bias`; its gain is in the weights."""

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        self.Bias = nn.Parameter(torch.zeros(num_channels))

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, r, r] -> [B, C, r, r]."""
        return F.leaky_relu(x + self.Bias.to(x.dtype)[:, None, None], LEAKY_SLOPE)


class ResidualBlock(nn.Module):
    """x + W3 · act(W2 · act(W1 · x)), W2 in groups."""

    def __init__(self, stage: R3GANStage) -> None:
        super().__init__()
        width, hidden = stage.num_channels, stage.num_hidden
        self.LinearLayer1 = Convolution(width, hidden)
        self.LinearLayer2 = Convolution(hidden, hidden, stage.kernel, stage.num_groups)
        self.LinearLayer3 = Convolution(hidden, width)
        self.NonLinearity1 = BiasedActivation(hidden)
        self.NonLinearity2 = BiasedActivation(hidden)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, r, r] -> [B, C, r, r]."""
        y = self.LinearLayer2(self.NonLinearity1(self.LinearLayer1(x)))
        residual: Tensor = self.LinearLayer3(self.NonLinearity2(y))
        return x + residual


class Resampler(nn.Module):
    """Doubles or halves a map through a FIR."""

    def __init__(self, *, up: bool) -> None:
        super().__init__()
        self.up = up
        self.register_buffer("Kernel", resample_filter())
        self.Kernel: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, r, r] -> [B, C, 2r, 2r] or [B, C, r/2, r/2]."""
        resample = upsample_image if self.up else downsample_image
        return resample(x, self.Kernel.to(x.dtype))


class ResamplingLayer(nn.Module):
    """From one stage to the next: a 1x1 convolution where the width changes, on the smaller map."""

    def __init__(self, in_channels: int, out_channels: int, *, up: bool) -> None:
        super().__init__()
        self.up = up
        self.Resampler = Resampler(up=up)
        if in_channels != out_channels:
            self.LinearLayer = Convolution(in_channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """[B, I, r, r] -> [B, O, 2r, 2r] or [B, O, r/2, r/2]."""
        if not self.up:
            x = self.Resampler(x)
        if hasattr(self, "LinearLayer"):
            x = self.LinearLayer(x)
        return self.Resampler(x) if self.up else x


class GenerativeBasis(nn.Module):
    """A learned 4-px map, each channel times a linear function of the latent."""

    def __init__(self, in_features: int, num_channels: int) -> None:
        super().__init__()
        self.Basis = nn.Parameter(torch.randn(num_channels, BASE_RESOLUTION, BASE_RESOLUTION))
        self.LinearLayer = nn.Linear(in_features, num_channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_features] -> [B, C, 4, 4]."""
        scale: Tensor = self.LinearLayer(x)
        return self.Basis * scale[:, :, None, None]


class DiscriminativeBasis(nn.Module):
    """Every channel's inner product with a learned 4-px map, then a linear layer."""

    def __init__(self, num_channels: int, num_outputs: int) -> None:
        super().__init__()
        self.Basis = nn.Conv2d(
            num_channels, num_channels, BASE_RESOLUTION, groups=num_channels, bias=False
        )
        self.LinearLayer = nn.Linear(num_channels, num_outputs, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, 4, 4] -> [B, num_outputs]."""
        products: Tensor = self.LinearLayer(self.Basis(x).flatten(1))
        return products


class Stage(nn.Module):
    """One resolution: `Layers` one after the other, in the type that the stage computes in."""

    def __init__(self, layers: list[nn.Module]) -> None:
        super().__init__()
        self.Layers = nn.ModuleList(layers)
        self.dtype = torch.float32

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, r, r], or the latent in the first of a generator, -> what the last layer makes."""
        x = x.to(self.dtype)
        for layer in self.Layers:
            x = layer(x)
        return x


class _GeneratorModel(nn.Module):
    """The network of the checkpoint's `Model`."""

    def __init__(self, arch: R3GANArchitecture) -> None:
        super().__init__()
        width = arch.z_dim + arch.embedding_width
        stages = []
        for index, stage in enumerate(arch.stages):
            first = (
                ResamplingLayer(width, stage.num_channels, up=True)
                if index
                else GenerativeBasis(width, stage.num_channels)
            )
            layers = [first, *_residual_blocks(stage)]
            stages.append(Stage(layers))
            width = stage.num_channels
        self.MainLayers = nn.ModuleList(stages)
        self.AggregationLayer = Convolution(width, arch.image_channels)
        if arch.num_classes:
            self.EmbeddingLayer = nn.Linear(arch.num_classes, arch.embedding_width, bias=False)

    def forward(self, z: Tensor, labels: Tensor | None) -> Tensor:
        """[B, z_dim], [B, num_classes] -> images [B, C, R, R] float32."""
        x = z if labels is None else torch.cat([z, self.EmbeddingLayer(labels)], 1)
        for stage in self.MainLayers:
            x = stage(x)
        image: Tensor = self.AggregationLayer(x.float())
        return image


class R3GANGenerator(UnmappedGenerator):
    """Latents -> images; a block is a stage."""

    def __init__(self, arch: R3GANArchitecture) -> None:
        super().__init__()
        self.arch: R3GANArchitecture = arch
        self.Model = _GeneratorModel(arch)
        self.blocks = [f"Model.MainLayers.{index}" for index in range(len(arch.stages))]

    def set_precision(self, dtype: torch.dtype) -> None:
        """Run the architecture's `half_stages` in `dtype`, the rest in float32."""
        super().set_precision(dtype)
        stages = [stage for stage in self.Model.MainLayers if isinstance(stage, Stage)]
        for stage, is_half in zip(stages, self.arch.half_stages, strict=True):
            stage.dtype = dtype if is_half else torch.float32

    def synthesise(self, z: Tensor, labels: Tensor | None) -> Tensor:
        """See `UnmappedGenerator`.

        Raises:
            ValueError: if labels are missing, superfluous or of the wrong width.
        """
        check_labels(labels, self.arch.num_classes)
        image: Tensor = self.Model(z, labels)
        return image


class _DiscriminatorModel(nn.Module):
    """The network of the checkpoint's `Model`."""

    def __init__(self, arch: R3GANDiscriminatorArchitecture) -> None:
        super().__init__()
        self.ExtractionLayer = Convolution(arch.image_channels, arch.stages[0].num_channels)
        widths = [stage.num_channels for stage in arch.stages]
        stages = []
        for stage, width in zip(arch.stages, [*widths[1:], 0], strict=True):
            last = (
                ResamplingLayer(stage.num_channels, width, up=False)
                if width
                else DiscriminativeBasis(stage.num_channels, arch.embedding_width or 1)
            )
            layers = [*_residual_blocks(stage), last]
            stages.append(Stage(layers))
        self.MainLayers = nn.ModuleList(stages)
        if arch.num_classes:
            self.EmbeddingLayer = nn.Linear(arch.num_classes, arch.embedding_width, bias=False)

    def forward(self, image: Tensor, labels: Tensor | None) -> Tensor:
        """[B, C, R, R], [B, num_classes] -> logits [B, 1]."""
        x: Tensor = self.ExtractionLayer(image)
        for stage in self.MainLayers:
            x = stage(x)
        if labels is not None:
            x = (x * self.EmbeddingLayer(labels)).sum(1, keepdim=True)
        return x


class R3GANDiscriminator(TeacherDiscriminator):
    """Images [B, C, R, R] in [-1, 1] -> logits [B, 1]; a block is a stage, of which the last makes
    [B, num_outputs]. The last feature is what that stage's linear layer sees.
    """

    def __init__(self, arch: R3GANDiscriminatorArchitecture) -> None:
        super().__init__()
        self.arch: R3GANDiscriminatorArchitecture = arch
        self.Model = _DiscriminatorModel(arch)
        self.blocks = [f"Model.MainLayers.{index}" for index in range(len(arch.stages))]
        self.last = f"{self.blocks[-1]}.Layers.{arch.stages[-1].num_blocks}.Basis"

    def forward(self, image: Tensor, labels: Tensor | None = None) -> Tensor:
        """Logits [B, 1], larger means more real; `labels` [B, num_classes] where there are classes.

        Raises:
            ValueError: if labels are missing, superfluous or of the wrong width.
        """
        check_labels(labels, self.arch.num_classes)
        logits: Tensor = self.Model(image, labels)
        return logits


def _residual_blocks(stage: R3GANStage) -> list[nn.Module]:
    return [ResidualBlock(stage) for _ in range(stage.num_blocks)]

"""lucidrains' StyleGAN2 (lucidrains/stylegan2-pytorch): plain linear styles, one image of noise for
all layers. The layers that the generator shares with its discriminator are here,
too.

Module names are those of the repository. Modulated convolutions use one shared weight, as in
`stylegan2.py`. Neighbours: `lucidrains_discriminator.py`, `linear_attention.py`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.teacher.architectures.lucidrains import LucidrainsArchitecture
from pipeline.teacher.interface import MappedGenerator, Noise
from pipeline.teacher.networks.layers import LEAKY_SLOPE
from pipeline.teacher.networks.linear_attention import attention_layer
from pipeline.teacher.networks.stylegan2 import truncate


class Blur(nn.Module):
    """A 3x3 binomial filter with reflected borders."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("f", torch.tensor([1.0, 2.0, 1.0]))
        self.f: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, r, r] -> [B, C, r, r]."""
        taps = torch.outer(self.f, self.f)
        weight = (taps / taps.abs().sum()).expand(x.shape[1], 1, 3, 3)
        return F.conv2d(F.pad(x, (1, 1, 1, 1), "reflect"), weight, groups=x.shape[1])


class EqualLinear(nn.Module):
    """x (W · lr_mult)ᵀ + b · lr_mult."""

    def __init__(self, width: int, lr_mult: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(width, width))
        self.bias = nn.Parameter(torch.zeros(width))
        self.lr_mult = lr_mult

    def forward(self, x: Tensor) -> Tensor:
        """[B, D] -> [B, D]."""
        return F.linear(x, self.weight * self.lr_mult, self.bias * self.lr_mult)


class StyleVectorizer(nn.Module):
    """Latents of unit length -> w."""

    def __init__(self, arch: LucidrainsArchitecture) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(arch.num_mapping_layers):
            layers += [EqualLinear(arch.z_dim, arch.mapping_lr_mult), nn.LeakyReLU(LEAKY_SLOPE)]
        self.net = nn.Sequential(*layers)

    def forward(self, z: Tensor) -> Tensor:
        """[B, z_dim] -> [B, z_dim]."""
        w: Tensor = self.net(F.normalize(z))
        return w


class ModulatedConv(nn.Module):
    """Convolution by weights scaled by 1 + the style, demodulated or not."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, *, demodulates: bool
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, kernel, kernel))
        self.demodulates = demodulates

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        """[B, I, r, r], [B, I] -> [B, O, r, r]."""
        scale = style + 1
        padding = self.weight.shape[-1] // 2
        x = F.conv2d(x * scale[:, :, None, None], self.weight, padding=padding)
        if not self.demodulates:
            return x
        with torch.autocast(x.device.type, enabled=False):  # a sum that may leave float16
            power = scale.float().square() @ self.weight.square().sum((2, 3)).T
        x = x * (power + 1e-8).rsqrt().to(x.dtype)[:, :, None, None]
        return x


class NoiseLayer(nn.Module):
    """Noise, scaled and shifted for each channel."""

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(num_channels, 1))
        self.bias = nn.Parameter(torch.zeros(num_channels))

    def forward(self, x: Tensor, noise: Tensor | None) -> Tensor:
        """[B, C, r, r], [B, 1, R, R] with R ≥ r, whose corner is taken, or None -> [B, C, r, r]."""
        x = x + self.bias.to(x.dtype)[:, None, None]
        if noise is None:
            return x
        side = x.shape[2]
        x = x + (noise[:, :, :side, :side].mT * self.weight[:, :, None]).to(x.dtype)
        return x


class ToRGB(nn.Module):
    """Adds to the image of a block before, and upsamples unless it `is_last`."""

    def __init__(self, arch: LucidrainsArchitecture, in_channels: int, *, is_last: bool) -> None:
        super().__init__()
        self.to_style = nn.Linear(arch.w_dim, in_channels)
        self.conv = ModulatedConv(in_channels, arch.image_channels, 1, demodulates=False)
        self.upsample = (
            nn.Identity()
            if is_last
            else nn.Sequential(nn.Upsample(scale_factor=2, mode="bilinear"), Blur())
        )

    def forward(self, x: Tensor, image: Tensor | None, w: Tensor) -> Tensor:
        """[B, I, r, r], [B, C, r, r] or None, [B, w_dim] -> [B, C, 2r, 2r], or r in the last."""
        rgb: Tensor = self.conv(x, self.to_style(w))
        if image is not None:
            rgb = rgb + image
        rgb = self.upsample(rgb)
        return rgb


class GeneratorBlock(nn.Module):
    """One resolution: (upsampling,) two modulated convolutions, and what they add to the image."""

    def __init__(
        self, arch: LucidrainsArchitecture, in_channels: int, num_channels: int, index: int
    ) -> None:
        super().__init__()
        is_first, is_last = index == 0, index == len(arch.widths) - 1
        self.upsample = nn.Identity() if is_first else nn.Upsample(scale_factor=2, mode="bilinear")
        self.to_style1 = nn.Linear(arch.w_dim, in_channels)
        self.to_noise1 = NoiseLayer(num_channels)
        self.conv1 = ModulatedConv(in_channels, num_channels, 3, demodulates=True)
        self.to_style2 = nn.Linear(arch.w_dim, num_channels)
        self.to_noise2 = NoiseLayer(num_channels)
        self.conv2 = ModulatedConv(num_channels, num_channels, 3, demodulates=True)
        self.to_rgb = ToRGB(arch, num_channels, is_last=is_last)

    def forward(
        self, x: Tensor, image: Tensor | None, w: Tensor, noise: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """[B, I, r, r], image or None, [B, w_dim], noise [B, 1, R, R] or None ->
        [B, C, r', r'], image.
        """
        x = self.conv1(self.upsample(x), self.to_style1(w))
        x = F.leaky_relu(self.to_noise1(x, noise), LEAKY_SLOPE)
        x = self.conv2(x, self.to_style2(w))
        x = F.leaky_relu(self.to_noise2(x, noise), LEAKY_SLOPE)
        return x, self.to_rgb(x, image, w)


class Synthesis(nn.Module):
    """`ws` -> image in [0, 1]."""

    def __init__(self, arch: LucidrainsArchitecture) -> None:
        super().__init__()
        width = arch.widths[0]
        self.has_const = arch.has_const
        if arch.has_const:
            self.initial_block = nn.Parameter(torch.randn(1, width, 4, 4))
        else:
            self.to_initial_block = nn.ConvTranspose2d(arch.w_dim, width, 4, bias=False)
        self.initial_conv = nn.Conv2d(width, width, 3, padding=1)
        pairs = list(zip((width, *arch.widths), arch.widths, strict=False))
        self.attns = nn.ModuleDict(
            {str(index): attention_layer(pairs[index][0]) for index in arch.attention}
        )
        self.blocks = nn.ModuleList(
            GeneratorBlock(arch, *pair, index) for index, pair in enumerate(pairs)
        )

    def forward(self, ws: Tensor, noise: Tensor | None) -> Tensor:
        """[B, num_blocks, w_dim], uniform noise [B, 1, R, R] or None -> [B, C, R, R]."""
        if self.has_const:
            x = self.initial_block.expand(len(ws), -1, -1, -1)
        else:
            x = self.to_initial_block(ws.mean(1)[:, :, None, None])
        x = self.initial_conv(x)
        image: Tensor | None = None
        for index, block in enumerate(self.blocks):
            if str(index) in self.attns:
                x = self.attns[str(index)](x)
            x, image = block(x, image, ws[:, index], noise)
        assert image is not None
        return image


class LucidrainsGenerator(MappedGenerator):
    """Latents -> images.

    In the repository noise is one image, uniform in [0, 1], whose corner every layer takes. A
    sample's map is normal, as all noise of teachers is; its distribution function makes it uniform.
    No map is stored, so that "const" is "none".
    """

    def __init__(self, arch: LucidrainsArchitecture) -> None:
        super().__init__()
        self.arch: LucidrainsArchitecture = arch
        self.SE = StyleVectorizer(arch)
        self.GE = Synthesis(arch)
        self.register_buffer("w_avg", torch.zeros(arch.w_dim))
        self.w_avg: Tensor
        self.blocks = [f"GE.blocks.{index}" for index in range(len(arch.widths))]
        self.num_ws = len(arch.widths)
        self.noise_resolutions = [arch.resolution]

    def map_latents(
        self,
        z: Tensor,
        labels: Tensor | None = None,
        truncation_psi: float = 1.0,
        truncation_cutoff: int | None = None,
    ) -> Tensor:
        """See `MappedGenerator.map_latents`."""
        ws = self.SE(z)[:, None].expand(-1, self.num_ws, -1)
        return truncate(ws, self.w_avg, truncation_psi, truncation_cutoff)

    def synthesise(self, ws: Tensor, noise: Noise) -> Tensor:
        """See `MappedGenerator.synthesise`.

        Raises:
            ValueError: for another number of noise maps than one.
        """
        uniform: Tensor | None = None
        if not isinstance(noise, str):
            if len(noise) != 1:
                raise ValueError(f"noise: expected 1 map, got {len(noise)}")
            uniform = torch.special.ndtr(noise[0])
        with self.autocast(ws.device):
            image: Tensor = self.GE(ws, uniform)
        return 2 * image.float() - 1

"""A DCGAN as tutorials write it, which shares no code with the project's own."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Layer:
    """An ordinary transposed convolution."""

    width: int
    kernel: int = 4
    stride: int = 2
    padding: int = 1
    output_padding: int = 0


FIRST = {"stride": 1, "padding": 0}


class OrdinaryDCGAN(nn.Module):
    """As in every tutorial: `main` is ConvTranspose2d, BatchNorm2d, ReLU, …, ConvTranspose2d,
    Tanh.
    """

    def __init__(
        self, z_dim: int, layers: list[Layer], *, has_bias: bool = False, has_norm: bool = True
    ) -> None:
        super().__init__()
        modules: list[nn.Module] = []
        for index, layer in enumerate(layers):
            conv = nn.ConvTranspose2d(
                z_dim if index == 0 else layers[index - 1].width,
                layer.width,
                layer.kernel,
                layer.stride,
                layer.padding,
                layer.output_padding,
                bias=has_bias,
            )
            modules.append(conv)
            if index == len(layers) - 1:
                modules.append(nn.Tanh())
                continue
            if has_norm:
                modules.append(nn.BatchNorm2d(layer.width))
            modules.append(nn.ReLU())
        self.z_dim = z_dim
        self.main = nn.Sequential(*modules)
        self._randomise()

    @torch.no_grad()
    def _randomise(self) -> None:
        """Every tensor acts, the running statistics among them."""
        generator = torch.Generator().manual_seed(7)
        for name, tensor in self.state_dict().items():
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 2, generator=generator)
            elif tensor.is_floating_point():
                scale = 0.3 if tensor.dim() == 4 else 0.5
                tensor.normal_(generator=generator).mul_(scale)
        self.eval()

    def forward(self, z: Tensor) -> Tensor:
        """[B, z_dim, 1, 1] -> images [B, C, R, R]."""
        image: Tensor = self.main(z)
        return image

    @torch.no_grad()
    def outputs(self, z: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Images, and what comes out of every ReLU."""
        x, features = z[:, :, None, None], []
        for module in self.main:
            x = module(x)
            if isinstance(module, nn.ReLU):
                features.append(x)
        return x, features


SMALL = [Layer(6, **FIRST), Layer(5), Layer(3)]


def small_dcgan() -> OrdinaryDCGAN:
    """Three layers for latents of 7 numbers."""
    return OrdinaryDCGAN(7, SMALL)

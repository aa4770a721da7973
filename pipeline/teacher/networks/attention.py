"""Self-attention of image GANs (Zhang et al. 2019, in the form of Brock et al. 2019)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Attention(nn.Module):
    """x + γ o(g βᵀ), where β are softmax(θᵀ φ) over the places of φ and g, maps of half the side.

    The four 1x1 convolutions without bias have the widths C/8, C/8, C/2 and C; `names` are those
    of the submodules, in the order θ, φ, g, o.
    """

    def __init__(
        self, num_channels: int, names: tuple[str, str, str, str] = ("theta", "phi", "g", "o")
    ) -> None:
        super().__init__()
        narrow, half = max(num_channels // 8, 1), max(num_channels // 2, 1)
        sizes = [(num_channels, narrow), (num_channels, narrow), (num_channels, half)]
        for name, size in zip(names, [*sizes, (half, num_channels)], strict=True):
            self.add_module(name, nn.Conv2d(*size, 1, bias=False))
        self._names = names
        self.gamma = nn.Parameter(torch.zeros([]))

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, r, r] -> [B, C, r, r]; r is even."""
        theta, phi, g, out = (self.get_submodule(name) for name in self._names)
        maps = theta(x), F.max_pool2d(phi(x), 2), F.max_pool2d(g(x), 2)
        queries, keys, values = (map_.flatten(2).transpose(1, 2)[:, None] for map_ in maps)
        # of one width there is a kernel that never has all β in memory: twice as fast on a CPU
        missing = values.shape[-1] - keys.shape[-1]
        queries, keys = F.pad(queries, (0, missing)), F.pad(keys, (0, missing))
        seen = F.scaled_dot_product_attention(queries, keys, values, scale=1.0)  # [B, 1, r², C/2]
        attended: Tensor = out(seen[:, 0].transpose(1, 2).unflatten(2, x.shape[2:]))
        return x + self.gamma * attended

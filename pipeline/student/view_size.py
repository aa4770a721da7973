"""The one rule by which images come to the size of the views where no view is cut from them: to be
embedded, compared by their pixels, or seen as they are.

They are resampled bicubically with antialiasing and clamped to their range; images of that size
stay what they are. Neighbours: `crops.py` cuts random views; `eval/` reads `SizedImages`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from shards.reader import ShardReader

_AT_ONCE = 64  # bounds the memory of float copies


def resize(images: Tensor, side: int) -> Tensor:
    """Floating-point images [B, C, S, S] of any range -> [B, C, side, side], not clamped."""
    if images.shape[-1] == side:
        return images
    return F.interpolate(images, (side, side), mode="bicubic", antialias=True)


def bring_to_size(images: Tensor, side: int) -> Tensor:
    """Images [B, C, S, S], uint8 or in [0, 1], -> [B, C, side, side] of the same type and range."""
    if images.shape[-1] == side:
        return images
    if images.dtype != torch.uint8:
        return resize(images, side).clamp_(0, 1)
    return resize(images.float(), side).round_().clamp_(0, 255).to(torch.uint8)


@dataclass(frozen=True)
class SizedImages:
    """Stored images, read at the size of the views."""

    reader: ShardReader
    side: int

    def __len__(self) -> int:
        return len(self.reader)

    @property
    def digest(self) -> str:
        """Of what is read: the reader's own, with the size where it is not the stored one."""
        is_stored = self.reader.schema.column("image").shape[-1] == self.side
        return self.reader.digest if is_stored else f"{self.reader.digest} at {self.side} px"

    def gather(self, rows: np.ndarray) -> Tensor:
        """The images at `rows` [n], uint8 [n, 3, side, side], on the CPU."""
        images = torch.from_numpy(self.reader.gather("image", rows))
        if images.shape[-1] == self.side:
            return images
        return torch.cat([bring_to_size(part, self.side) for part in images.split(_AT_ONCE)])

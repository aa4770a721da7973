"""Images and labels at the sizes that training and testing want, and batches of different sizes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor


def fit(size: tuple[int, int], short: int, long: int, multiple: int = 1) -> tuple[int, int]:
    """`size` scaled so that its shorter side is `short`, or its longer one `long` if that is less;
    both sides rounded up to a `multiple`.
    """
    scale = min(short / min(size), long / max(size))
    first, second = (-(-max(1, round(side * scale)) // multiple) * multiple for side in size)
    return first, second


def to_tensor(image: Image.Image) -> Tensor:
    """RGB -> uint8 [3, H, W]."""
    return torch.from_numpy(np.asarray(image).transpose(2, 0, 1).copy())


def resize_image(image: Image.Image, height: int, width: int) -> Image.Image:
    """Bilinear; smoothed where it becomes smaller."""
    return image.resize((width, height), Image.Resampling.BILINEAR)


def resize_labels(labels: Tensor, height: int, width: int) -> Tensor:
    """Labels nearest to the new pixels' middles; [..., C, H, W] -> [..., C, height, width]."""
    rows = _nearest(labels.shape[-2], height, labels.device)
    columns = _nearest(labels.shape[-1], width, labels.device)
    return labels[..., rows[:, None], columns]


def pad_batch(parts: Sequence[Tensor], multiple: int, value: float) -> Tensor:
    """Tensors [C, H_i, W_i] -> [B, C, H, W], filled up right and below with `value` to the largest
    height and width, rounded up to a `multiple`.
    """
    height, width = (
        -(-max(part.shape[axis] for part in parts) // multiple) * multiple for axis in (1, 2)
    )
    return torch.stack(
        [
            F.pad(part, (0, width - part.shape[2], 0, height - part.shape[1]), value=value)
            for part in parts
        ]
    )


def _nearest(old: int, new: int, device: torch.device) -> Tensor:
    places = (torch.arange(new, device=device) * 2 + 1) * old
    return places // (2 * new)

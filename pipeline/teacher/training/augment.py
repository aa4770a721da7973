"""Adaptive discriminator augmentation (Karras et al. 2020, "Training GANs with limited data",
section 3, app. B), done to a batch on its device.

Differentiable, on real and rendered images alike. Neighbours: `augment_draws.py` draws what happens
to each image, `ada.py` moves the probability, `warp.py` has the derivatives.

Departures: one bilinear resampling without the paper's 2x upsampling and wavelet filters, so strong
minification aliases; the border is mirrored about the image's edge, however often the warp asks for
it, and not padded by the mirrored image once.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.teacher.training.warp import resample


def augment(images: Tensor, drawn: Tensor | None) -> Tensor:
    """`images` transformed as `drawn`; as they are for None.

    Geometry and colour are computed in float32 whatever the images' type and any autocast.
    Differentiable in the images any number of times.

    Args:
        images: [B, C, R, R] in [-1, 1], any floating type; C is 1 or 3. A grey image gets what the
            colour transformations do to luma.
        drawn: [B, NUM_VALUES] of `draw_augmentation`, on the device of the images.

    Returns:
        [B, C, R, R] of the images' type; colour can leave [-1, 1].

    Raises:
        ValueError: for another number of channels.
    """
    if drawn is None:
        return images
    geometry, colour = drawn[:, :6].view(-1, 2, 3), drawn[:, 6:].view(-1, 3, 4)
    with torch.autocast(images.device.type, enabled=False):
        found = apply_colour(apply_geometry(images.float(), geometry), colour)
    return found.to(images.dtype)


def apply_geometry(images: Tensor, geometry: Tensor) -> Tensor:
    """float32 `images` [B, C, R, R] resampled by `geometry` [B, 2 or 3, 3] on the same device."""
    grid = F.affine_grid(geometry[:, :2], list(images.shape), align_corners=False)
    return resample(images, grid)


def apply_colour(images: Tensor, colour: Tensor) -> Tensor:
    """float32 `images` [B, 1 or 3, R, R] through `colour` [B, 3 or 4, 4] on the same device."""
    colour = colour[:, :3]
    if images.shape[1] == 1:  # no part leaves the grey axis: its three rows agree
        gain, offset = colour[:, :, :3].sum(2).mean(1), colour[:, :, 3].mean(1)
        return images * gain[:, None, None, None] + offset[:, None, None, None]
    if images.shape[1] != 3:
        raise ValueError(f"images have {images.shape[1]} channels, not 1 or 3")
    pixels = torch.baddbmm(colour[:, :, 3:], colour[:, :, :3], images.flatten(2))
    return pixels.reshape(images.shape)

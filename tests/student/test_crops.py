"""Crop, rotation and flip of images of any size against torchvision's."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms.v2 import functional as vision

from pipeline.config.augment import AugmentConfig
from pipeline.student.crops import cut, cut_all, find_boxes
from tests.support.views import STILL, draw

Box = tuple[int, int, int, int]
"""Top, left, height, width, as torchvision orders them."""


def draw_images(batch: int, side: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (batch, 3, side, side), generator=generator, dtype=torch.uint8)


def theta_of(box: Box, size: int, flip: bool = False, degrees: float = 0.0) -> Tensor:
    """[2, 3] of a box in an image of `size`, turned by `degrees` about its own centre."""
    top, left, height, width = box
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    x, y = (-width if flip else width) / size, height / size
    centre_x, centre_y = (2 * left + width) / size - 1, (2 * top + height) / size - 1
    return torch.tensor([[x * cos, -y * sin, centre_x], [x * sin, y * cos, centre_y]])


def resized_crop(image: Tensor, box: Box, side: int) -> Tensor:
    return vision.resized_crop(image, *box, [side, side], antialias=True)


@pytest.mark.parametrize("rotation", [0.0, 20.0])
@pytest.mark.parametrize("size", [8, 32])
def test_cut_at_equal_sizes_is_grid_sample_to_the_last_bit(size: int, rotation: float) -> None:
    """As when views had the size of the stored images: trained students keep their digests."""
    theta = draw(AugmentConfig(rotation_deg=rotation), 50).theta
    images = draw_images(50, size)
    centres = (torch.arange(size) * 2 + 1) / size - 1
    x, y = centres.expand(size, size), centres[:, None].expand(size, size)
    base = torch.stack([x, y, torch.ones_like(x)]).reshape(3, -1)
    grid = (theta.reshape(-1, 3) @ base).view(-1, 2, size, size).permute(0, 2, 3, 1)
    pixels = images.float().div_(255)
    expected = F.grid_sample(pixels, grid, padding_mode="border", align_corners=False)
    assert torch.equal(cut_all([images[:20], images[20:]], theta, size, cut), expected)
    assert torch.equal(cut(pixels, theta, size), expected)


@pytest.mark.parametrize("size", [96, 256])
@pytest.mark.parametrize("share", [(0, 0, 1, 1), (0, 0.25, 0.5, 0.75), (0.5, 0.25, 0.25, 0.5)])
@pytest.mark.parametrize("flip", [False, True])
def test_cut_of_a_larger_image_equals_torchvisions_antialiased_crop(
    size: int, share: tuple[float, ...], flip: bool
) -> None:
    top, left, height, width = (int(part * size) for part in share)
    box, images = (top, left, height, width), draw_images(3, size)
    found = cut(images, theta_of(box, size, flip).repeat(3, 1, 1), 64)
    expected = resized_crop(images.float() / 255, box, 64)
    # the same boxes and filters; float32 sums of up to 9 x 9 levels, divided by 255 before or after
    torch.testing.assert_close(found, expected.flip(3) if flip else expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("box", [(0, 0, 32, 32), (4, 2, 20, 26), (16, 16, 8, 12)])
def test_cut_of_a_smaller_image_equals_torchvisions_crop_in_the_interior(box: Box) -> None:
    images = draw_images(3, 32).float() / 255
    found = cut(images, theta_of(box, 32).repeat(3, 1, 1), 64)
    # torchvision cuts first and so repeats the box's outermost pixels; ours sees past them
    rows, columns = (math.ceil(64 / length / 2) for length in box[2:])
    inner = np.s_[..., rows : 64 - rows, columns : 64 - columns]
    # noise images, grids that agree to 1e-5 of a pixel
    expected = resized_crop(images, box, 64)
    torch.testing.assert_close(found[inner], expected[inner], rtol=0, atol=1e-4)


@pytest.mark.parametrize("size", [96, 256])
@pytest.mark.parametrize(("flip", "degrees"), [(False, 20.0), (True, -45.0)])
def test_cut_of_a_rotated_box_equals_torchvisions_rotation_and_crop(
    size: int, flip: bool, degrees: float
) -> None:
    half = size // 4
    box = (half // 2, half, 2 * half, half)
    images = draw_images(3, size).float() / 255
    found = cut(images, theta_of(box, size, flip, degrees).repeat(3, 1, 1), 64)
    centre = [box[1] + box[3] / 2, box[0] + box[2] / 2]
    turned = vision.rotate(images, degrees, vision.InterpolationMode.BILINEAR, center=centre)
    expected = resized_crop(turned, box, 64)
    # bilinear on both sides: noise images, grids that agree to 1e-5 of a pixel
    torch.testing.assert_close(found, expected.flip(3) if flip else expected, rtol=0, atol=1e-4)


def test_find_boxes_are_whole_pixels_within_the_image_nearest_to_what_was_drawn() -> None:
    theta = draw(AugmentConfig()).theta
    starts, lengths, is_flipped = find_boxes(theta, 96)
    for part in (starts, lengths):
        assert torch.equal(part, part.round())
    assert (starts >= 0).all()
    assert (lengths >= 1).all()
    assert (starts + lengths <= 96).all()
    sizes = torch.stack([theta[:, 0, 0].abs(), theta[:, 1, 1]], 1) * 96
    assert (lengths - sizes).abs().max() <= 0.5
    centres = (theta[:, :, 2] + 1) * 48
    assert (starts + lengths / 2 - centres).abs().max() <= 0.75
    assert torch.equal(is_flipped, theta[:, 0, 0] < 0)


@pytest.mark.parametrize("sizes", [(16, 24, 8), (24, 24, 16)])
def test_cut_all_of_images_of_many_sizes_cuts_each(sizes: tuple[int, ...]) -> None:
    images = [draw_images(5, size, seed) for seed, size in enumerate(sizes)]
    theta = draw(AugmentConfig(), 15).theta
    found = cut_all(images, theta, 12, cut)
    for part, parameters, views in zip(images, theta.split(5), found.split(5), strict=True):
        # grids of a smaller batch may be rounded otherwise
        torch.testing.assert_close(cut(part, parameters, 12), views, rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", [16, 12, 40])
def test_cut_of_flat_images_is_flat_and_leaves_them_unchanged(size: int) -> None:
    images = torch.full((4, 3, size, size), 0.25)
    views = cut(images, draw(AugmentConfig(rotation_deg=30), 4).theta, 12)
    torch.testing.assert_close(views, torch.full((4, 3, 12, 12), 0.25), rtol=0, atol=1e-6)
    assert (images == 0.25).all()


def test_cut_of_a_config_with_everything_off_is_the_whole_image_at_the_views_size() -> None:
    images = draw_images(4, 24)
    whole = resized_crop(images.float() / 255, (0, 0, 24, 24), 16)
    torch.testing.assert_close(cut(images, draw(STILL, 4).theta, 16), whole, rtol=0, atol=2e-6)

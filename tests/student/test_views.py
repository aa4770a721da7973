"""Views against torchvision's operations, one at a time."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as vision

from pipeline.config.augment import AugmentConfig
from tests.support.views import STILL, draw, identity, views_of

SIDE = 32


def draw_images(batch: int = 4, side: int = SIDE, seed: int = 0) -> Tensor:
    return torch.rand(batch, 3, side, side, generator=torch.Generator().manual_seed(seed))


def test_make_views_identity_parameters_return_the_images() -> None:
    images = draw_images()
    # the resampling grid is computed in float32: a pixel may be read 1e-6 of its width off centre
    torch.testing.assert_close(views_of(images, identity()), images, rtol=0, atol=1e-5)


def test_make_views_of_a_config_with_everything_off_return_the_images() -> None:
    images = draw_images()
    torch.testing.assert_close(views_of(images, draw(STILL, 4)), images, rtol=0, atol=1e-5)


JITTER: list[Callable[[Tensor, float], Tensor]] = [
    vision.adjust_brightness,
    vision.adjust_contrast,
    vision.adjust_saturation,
    vision.adjust_hue,
]


@pytest.mark.parametrize(
    ("slot", "values"),
    [
        (0, [0.6, 1.0, 1.4, 2.0]),
        (1, [0.0, 0.6, 1.0, 1.4]),
        (2, [0.0, 0.6, 1.0, 1.4]),
        (3, [-0.5, -0.1, 0.0, 0.23]),
    ],
    ids=["brightness", "contrast", "saturation", "hue"],
)
def test_make_views_one_colour_operation_equals_torchvisions(
    slot: int, values: list[float]
) -> None:
    images = draw_images()
    factors = identity().factors.clone()
    factors[:, slot] = torch.tensor(values)
    found = views_of(images, replace(identity(), factors=factors))
    expected = torch.stack(
        [JITTER[slot](image, value) for image, value in zip(images, values, strict=True)]
    )
    # float32 colour conversions in another order of operations, plus the grid's 1e-5 above
    torch.testing.assert_close(found, expected, rtol=0, atol=5e-5)


def test_make_views_hue_of_grey_and_primary_pixels_equals_torchvisions() -> None:
    corners = torch.tensor(list(itertools.product([0.0, 0.5, 1.0], repeat=3)))  # [27, 3]
    image = corners.T.reshape(1, 3, 3, 9)[..., :3].repeat(1, 1, 3, 3)
    factors = torch.tensor([[1.0, 1.0, 1.0, 0.17]])
    found = views_of(image, replace(identity(1), factors=factors))
    torch.testing.assert_close(found, vision.adjust_hue(image, 0.17), rtol=0, atol=5e-5)


def test_make_views_grey_samples_equal_torchvisions_and_leave_the_others() -> None:
    images = draw_images()
    is_grey = torch.tensor([True, False, True, False])
    found = views_of(images, replace(identity(), is_grey=is_grey))
    grey = vision.rgb_to_grayscale(images, num_output_channels=3)
    expected = torch.where(is_grey[:, None, None, None], grey, images)
    # weights of four digits on both sides; rounding and grid only
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-5)


def test_make_views_flip_equals_torchvisions() -> None:
    images = draw_images()
    found = views_of(images, draw(STILL.model_copy(update={"flip_p": 1.0}), 4))
    # pixels are exchanged, not interpolated; 1e-5 is the float32 grid
    torch.testing.assert_close(found, vision.horizontal_flip(images), rtol=0, atol=1e-5)


def test_make_views_rotation_equals_torchvisions_within_the_inner_circle() -> None:
    images = draw_images(6)
    views = draw(STILL.model_copy(update={"rotation_deg": 45.0}), 6)
    found = views_of(images, views)
    pixels = torch.arange(SIDE) - (SIDE - 1) / 2
    inside = (pixels[:, None] ** 2 + pixels[None] ** 2).sqrt() < SIDE / 2 - 1.5
    for image, view, theta in zip(images, found, views.theta, strict=True):
        degrees = math.degrees(math.atan2(theta[1, 0], theta[0, 0]))
        expected = vision.rotate(image, degrees, vision.InterpolationMode.BILINEAR)
        # bilinear on both sides: noise images, grids that agree to 1e-5 of a pixel
        torch.testing.assert_close(view[:, inside], expected[:, inside], rtol=0, atol=1e-4)


@pytest.mark.parametrize("box", [(0, 0, 16, 16), (5, 9, 20, 14), (8, 2, 24, 30), (16, 16, 16, 16)])
def test_make_views_crop_equals_torchvisions_in_the_interior(
    box: tuple[int, int, int, int],
) -> None:
    top, left, height, width = box
    images = draw_images()
    theta = torch.tensor(
        [
            [width / SIDE, 0, (2 * left + width) / SIDE - 1],
            [0, height / SIDE, (2 * top + height) / SIDE - 1],
        ]
    )
    found = views_of(images, replace(identity(), theta=theta.repeat(4, 1, 1)))
    expected = vision.resized_crop(images, top, left, height, width, [SIDE, SIDE], antialias=False)
    # torchvision cuts first and so repeats the box's outermost pixels; ours sees past them
    rows, columns = (math.ceil(SIDE / size / 2) for size in (height, width))
    inner = np.s_[..., rows : SIDE - rows, columns : SIDE - columns]
    torch.testing.assert_close(found[inner], expected[inner], rtol=0, atol=1e-4)


@pytest.mark.parametrize("side", [16, 32, 80])
def test_make_views_blur_equals_torchvisions(side: int) -> None:
    images = draw_images(4, side)
    sigma = torch.tensor([0.1, 0.0, 0.7, 2.0])
    found = views_of(images, replace(identity(), sigma=sigma))
    kernel = 2 * max(1, side // 20) + 1
    for image, view, value in zip(images, found, sigma.tolist(), strict=True):
        expected = vision.gaussian_blur(image, [kernel] * 2, [value] * 2) if value else image
        # separable on ours, a two-dimensional kernel on torchvision's; rounding and grid
        torch.testing.assert_close(view, expected, rtol=0, atol=2e-5)


def test_make_views_every_jitter_order_equals_torchvisions_sequence() -> None:
    orders = list(itertools.permutations(range(4)))
    images = draw_images(1).repeat(len(orders), 1, 1, 1)
    values = [1.4, 1.6, 0.5, 0.2]
    views = replace(
        identity(len(orders)),
        factors=torch.tensor(values).repeat(len(orders), 1),
        order=torch.tensor(orders),
    )
    found = views_of(images, views)
    expected = []
    for image, order in zip(images, orders, strict=True):
        for slot in order:
            image = JITTER[slot](image, values[slot])
        expected.append(image)
    # four float32 colour operations in sequence
    torch.testing.assert_close(found, torch.stack(expected), rtol=0, atol=2e-4)
    assert (found[0] - found[-1]).abs().max() > 0.01


def test_make_views_two_colour_operations_keep_their_order() -> None:
    images = draw_images(2)
    order = torch.tensor([[2, 0, 3, 1], [1, 3, 2, 0]])
    factors = torch.tensor([1.5, 1.7, 1.0, 0.0]).repeat(2, 1)
    found = views_of(images, replace(identity(2), factors=factors, order=order))
    first = vision.adjust_contrast(vision.adjust_brightness(images[0], 1.5), 1.7)
    second = vision.adjust_brightness(vision.adjust_contrast(images[1], 1.7), 1.5)
    torch.testing.assert_close(found, torch.stack([first, second]), rtol=0, atol=1e-4)


@pytest.mark.parametrize("active", [0, 1, 2, 3])
def test_make_views_leaves_images_and_parameters_unchanged(active: int) -> None:
    images = draw_images()
    factors = identity().factors.clone()
    factors[:, active] = 0.3
    views = replace(identity(), factors=factors)
    before = {field.name: getattr(views, field.name).clone() for field in fields(views)}
    images_before = images.clone()
    views_of(images, views)
    torch.testing.assert_close(images, images_before, rtol=0, atol=0)
    for name, value in before.items():
        torch.testing.assert_close(getattr(views, name), value, rtol=0, atol=0, msg=name)


def test_make_views_stay_in_range() -> None:
    images = draw_images(64).round()
    config = AugmentConfig(rotation_deg=30, blur_p=0.5, brightness=1, contrast=1, hue=0.5)
    views = views_of(images, draw(config, 64))
    assert views.shape == images.shape
    assert views.min() >= -1e-6
    assert views.max() <= 1 + 1e-6


def test_make_views_each_sample_is_independent_of_its_batch() -> None:
    images = draw_images(8)
    views = draw(AugmentConfig(rotation_deg=20, blur_p=0.5), 8)
    whole = views_of(images, views)
    for row in range(8):
        alone = views_of(images[row : row + 1], views.rows(row, row + 1))
        # vectorised kernels may round a single sample otherwise than a batch
        torch.testing.assert_close(alone, whole[row : row + 1], rtol=0, atol=1e-5)


def test_rows_slices_every_parameter() -> None:
    views = draw(AugmentConfig(blur_p=0.5), 10)
    part = views.rows(3, 7)
    for field in fields(views):
        expected = getattr(views, field.name)[3:7]
        torch.testing.assert_close(getattr(part, field.name), expected, rtol=0, atol=0)

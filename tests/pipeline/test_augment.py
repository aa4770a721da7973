"""Views against torchvision's operations, one at a time, and their parameters against its draws."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import fields, replace
from functools import partial

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor
from torchvision.transforms import ColorJitter, RandomResizedCrop
from torchvision.transforms.v2 import functional as vision

from pipeline.augment import ViewParameters, draw_views, make_views
from pipeline.train_config import AugmentConfig

SIDE = 32
STILL = AugmentConfig(
    crop_scale=(1, 1), crop_ratio=(1, 1), flip_p=0, jitter_p=0, grayscale_p=0, blur_p=0
)
NUM_DRAWS = 4000
# a correct implementation fails one such comparison in ten thousand; the seeds are fixed, so a
# test that has passed keeps passing
P_VALUE = 1e-4


def draw_images(batch: int = 4, side: int = SIDE, seed: int = 0) -> Tensor:
    return torch.rand(batch, 3, side, side, generator=torch.Generator().manual_seed(seed))


def identity(batch: int = 4) -> ViewParameters:
    return ViewParameters(
        theta=torch.eye(2, 3).repeat(batch, 1, 1),
        factors=torch.tensor([1.0, 1.0, 1.0, 0.0]).repeat(batch, 1),
        order=torch.arange(4).repeat(batch, 1),
        is_grey=torch.zeros(batch, dtype=torch.bool),
        sigma=torch.zeros(batch),
    )


def draw(config: AugmentConfig, batch: int = NUM_DRAWS, seed: int = 0) -> ViewParameters:
    return draw_views(config, batch, torch.Generator().manual_seed(seed))


def test_make_views_identity_parameters_return_the_images() -> None:
    images = draw_images()
    # the resampling grid is computed in float32: a pixel may be read 1e-6 of its width off centre
    torch.testing.assert_close(make_views(images, identity()), images, rtol=0, atol=1e-5)


def test_make_views_of_a_config_with_everything_off_return_the_images() -> None:
    images = draw_images()
    torch.testing.assert_close(make_views(images, draw(STILL, 4)), images, rtol=0, atol=1e-5)


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
    found = make_views(images, replace(identity(), factors=factors))
    expected = torch.stack(
        [JITTER[slot](image, value) for image, value in zip(images, values, strict=True)]
    )
    # float32 colour conversions in another order of operations, plus the grid's 1e-5 above
    torch.testing.assert_close(found, expected, rtol=0, atol=5e-5)


def test_make_views_hue_of_grey_and_primary_pixels_equals_torchvisions() -> None:
    corners = torch.tensor(list(itertools.product([0.0, 0.5, 1.0], repeat=3)))  # [27, 3]
    image = corners.T.reshape(1, 3, 3, 9)[..., :3].repeat(1, 1, 3, 3)
    factors = torch.tensor([[1.0, 1.0, 1.0, 0.17]])
    found = make_views(image, replace(identity(1), factors=factors))
    torch.testing.assert_close(found, vision.adjust_hue(image, 0.17), rtol=0, atol=5e-5)


def test_make_views_grey_samples_equal_torchvisions_and_leave_the_others() -> None:
    images = draw_images()
    is_grey = torch.tensor([True, False, True, False])
    found = make_views(images, replace(identity(), is_grey=is_grey))
    grey = vision.rgb_to_grayscale(images, num_output_channels=3)
    expected = torch.where(is_grey[:, None, None, None], grey, images)
    # weights of four digits on both sides; rounding and grid only
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-5)


def test_make_views_flip_equals_torchvisions() -> None:
    images = draw_images()
    found = make_views(images, draw(STILL.model_copy(update={"flip_p": 1.0}), 4))
    # pixels are exchanged, not interpolated; 1e-5 is the float32 grid
    torch.testing.assert_close(found, vision.horizontal_flip(images), rtol=0, atol=1e-5)


def test_make_views_rotation_equals_torchvisions_within_the_inner_circle() -> None:
    images = draw_images(6)
    views = draw(STILL.model_copy(update={"rotation_deg": 45.0}), 6)
    found = make_views(images, views)
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
    found = make_views(images, replace(identity(), theta=theta.repeat(4, 1, 1)))
    expected = vision.resized_crop(images, top, left, height, width, [SIDE, SIDE], antialias=False)
    # torchvision cuts first and so repeats the box's outermost pixels; ours sees past them
    rows, columns = (math.ceil(SIDE / size / 2) for size in (height, width))
    inner = np.s_[..., rows : SIDE - rows, columns : SIDE - columns]
    torch.testing.assert_close(found[inner], expected[inner], rtol=0, atol=1e-4)


@pytest.mark.parametrize("side", [16, 32, 80])
def test_make_views_blur_equals_torchvisions(side: int) -> None:
    images = draw_images(4, side)
    sigma = torch.tensor([0.1, 0.0, 0.7, 2.0])
    found = make_views(images, replace(identity(), sigma=sigma))
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
    found = make_views(images, views)
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
    found = make_views(images, replace(identity(2), factors=factors, order=order))
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
    make_views(images, views)
    torch.testing.assert_close(images, images_before, rtol=0, atol=0)
    for name, value in before.items():
        torch.testing.assert_close(getattr(views, name), value, rtol=0, atol=0, msg=name)


def test_make_views_stay_in_range() -> None:
    images = draw_images(64).round()
    config = AugmentConfig(rotation_deg=30, blur_p=0.5, brightness=1, contrast=1, hue=0.5)
    views = make_views(images, draw(config, 64))
    assert views.shape == images.shape
    assert views.min() >= -1e-6
    assert views.max() <= 1 + 1e-6


def test_make_views_each_sample_is_independent_of_its_batch() -> None:
    images = draw_images(8)
    views = draw(AugmentConfig(rotation_deg=20, blur_p=0.5), 8)
    whole = make_views(images, views)
    for row in range(8):
        alone = make_views(images[row : row + 1], views.rows(row, row + 1))
        # vectorised kernels may round a single sample otherwise than a batch
        torch.testing.assert_close(alone, whole[row : row + 1], rtol=0, atol=1e-5)


def test_rows_slices_every_parameter() -> None:
    views = draw(AugmentConfig(blur_p=0.5), 10)
    part = views.rows(3, 7)
    for field in fields(views):
        expected = getattr(views, field.name)[3:7]
        torch.testing.assert_close(getattr(part, field.name), expected, rtol=0, atol=0)


def test_draw_views_same_generator_state_draws_the_same_views() -> None:
    first, second, other = (draw(AugmentConfig(blur_p=0.5), 50, seed) for seed in (1, 1, 2))
    for field in fields(first):
        found, expected = getattr(first, field.name), getattr(second, field.name)
        torch.testing.assert_close(found, expected, rtol=0, atol=0)
    assert not torch.equal(first.theta, other.theta)


def assert_same_distribution(ours: Tensor | np.ndarray, theirs: Tensor | np.ndarray) -> None:
    assert stats.ks_2samp(np.asarray(ours), np.asarray(theirs)).pvalue > P_VALUE


def assert_share(chosen: Tensor, p: float) -> None:
    assert stats.binomtest(int(chosen.sum()), len(chosen), p).pvalue > P_VALUE


@pytest.mark.parametrize(
    ("scale", "ratio"), [((0.2, 1.0), (3 / 4, 4 / 3)), ((0.6, 1.0), (0.5, 2.0))]
)
def test_draw_views_crops_are_distributed_as_torchvisions(
    scale: tuple[float, float], ratio: tuple[float, float]
) -> None:
    theta = draw(STILL.model_copy(update={"crop_scale": scale, "crop_ratio": ratio})).theta
    side = 2000  # torchvision draws whole pixels; on so many the steps do not show
    torch.manual_seed(0)
    image = torch.empty(1, 1, 1).expand(3, side, side)
    get_params = partial(RandomResizedCrop.get_params, image, list(scale), list(ratio))
    boxes = torch.tensor([get_params() for _ in range(NUM_DRAWS)]).double() / side
    top, left, height, width = boxes.unbind(1)
    ours_width, ours_height = theta[:, 0, 0], theta[:, 1, 1]
    # compare well inside the steps of whole pixels
    assert_same_distribution(ours_width * ours_height, width * height)
    assert_same_distribution((ours_width / ours_height).log(), (width / height).log())
    whole = ours_width.isclose(torch.ones([])) & ours_height.isclose(torch.ones([]))
    assert abs(whole.float().mean() - ((width == 1) & (height == 1)).float().mean()) < 0.02
    assert_same_distribution(theta[:, 0, 2], 2 * left + width - 1)
    assert_same_distribution(theta[:, 1, 2], 2 * top + height - 1)
    assert (theta[:, 0, 2].abs() + ours_width <= 1 + 1e-6).all()
    assert (theta[:, 1, 2].abs() + ours_height <= 1 + 1e-6).all()


def test_draw_views_colour_factors_are_distributed_as_torchvisions() -> None:
    config = STILL.model_copy(
        update={"brightness": 0.4, "contrast": 0.3, "saturation": 0.2, "hue": 0.1, "jitter_p": 1.0}
    )
    views = draw(config)
    jitter = ColorJitter(config.brightness, config.contrast, config.saturation, config.hue)
    torch.manual_seed(0)
    draws = [
        jitter.get_params(jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue)
        for _ in range(NUM_DRAWS)
    ]
    for slot in range(4):
        theirs = torch.tensor([factors[slot] for _, *factors in draws])
        assert_same_distribution(views.factors[:, slot], theirs)
    correlation = np.corrcoef(views.factors.T)
    assert np.abs(correlation - np.eye(4)).max() < 0.1


def test_draw_views_jitter_orders_are_uniform_permutations() -> None:
    order = draw(AugmentConfig()).order
    assert (order.sort(1).values == torch.arange(4)).all()
    _, counts = order.unique(dim=0, return_counts=True)
    assert len(counts) == 24
    assert stats.chisquare(counts.numpy()).pvalue > P_VALUE


def test_draw_views_parts_happen_with_their_probabilities_independently() -> None:
    config = STILL.model_copy(
        update={"jitter_p": 0.8, "grayscale_p": 0.2, "flip_p": 0.3, "blur_p": 0.4}
    )
    views = draw(config)
    flipped = views.theta[:, 0, 0] < 0
    jittered = (views.factors != identity(1).factors).any(1)
    chosen = torch.stack([jittered, views.is_grey, flipped, views.sigma > 0])
    for happened, p in zip(chosen, (0.8, 0.2, 0.3, 0.4), strict=True):
        assert_share(happened, p)
    assert np.abs(np.corrcoef(chosen.numpy()) - np.eye(4)).max() < 0.1


def test_draw_views_blur_and_rotation_are_uniform_in_their_ranges() -> None:
    config = STILL.model_copy(
        update={"rotation_deg": 30.0, "blur_p": 1.0, "blur_sigma": (0.5, 1.5)}
    )
    views = draw(config)
    assert stats.kstest(views.sigma.numpy(), stats.uniform(0.5, 1.0).cdf).pvalue > P_VALUE
    angle = torch.atan2(views.theta[:, 1, 0], views.theta[:, 0, 0]).rad2deg()
    assert stats.kstest(angle.numpy(), stats.uniform(-30, 60).cdf).pvalue > P_VALUE


def test_draw_views_unjittered_samples_keep_all_their_colours() -> None:
    views = draw(AugmentConfig(jitter_p=0.5))
    touched = views.factors != identity(1).factors
    assert ((touched.sum(1) == 0) | (touched.sum(1) == 4)).all()

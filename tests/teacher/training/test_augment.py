"""Adaptive augmentation done to images: each part alone, both pipelines, gradients, types."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pipeline.teacher.training import augment as application
from pipeline.teacher.training.augment import apply_colour, apply_geometry
from pipeline.teacher.training.augment_draws import Pipe, draw_augmentation
from tests.support.augmentations import R, colour, generator, geometry, share


def draw_images(batch: int, channels: int = 3) -> Tensor:
    return torch.rand(batch, channels, R, R, generator=generator(1)) * 2 - 1


def augment(images: Tensor, p: float, draws: torch.Generator, pipe: Pipe = "upright") -> Tensor:
    drawn = draw_augmentation(pipe, len(images), images.shape[-1], p, draws)
    return application.augment(images, drawn)


def test_augment_without_draws_returns_the_images() -> None:
    images = draw_images(4)
    assert application.augment(images, None) is images


@pytest.mark.parametrize("pipe", ["bgc", "upright"])
def test_draw_augmentation_at_zero_probability_changes_no_image(pipe: Pipe) -> None:
    images = draw_images(4)
    found = augment(images, 0.0, generator(), pipe)
    # float32 resampling grid: an untouched image is read back within 1e-5 of its range
    torch.testing.assert_close(found, images, rtol=0, atol=1e-4)


def test_flip_alone_gives_mirrored_or_same_images_in_equal_shares() -> None:
    images, matrices = draw_images(400), geometry("flip", batch=400)
    found = apply_geometry(images, matrices)
    mirrored = matrices[:, 0, 0] < 0
    assert share(mirrored) == pytest.approx(0.5, abs=0.1)
    expected = torch.where(mirrored[:, None, None, None], images.flip(3), images)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)  # float32 sampling grid


def test_turn_alone_gives_each_quarter_turn_of_the_image() -> None:
    images, matrices = draw_images(400), geometry("turn", batch=400)
    found = apply_geometry(images, matrices)
    quarters = torch.stack([torch.rot90(images, k, (2, 3)) for k in range(4)])
    distance = (found - quarters).abs().amax((2, 3, 4))  # [4, B]
    assert distance.amin(0).max() < 1e-4  # float32 sampling grid
    counts = torch.bincount(distance.argmin(0), minlength=4)
    assert (counts > 60).all()  # of 100 expected


def test_shift_whole_pixels_alone_moves_by_up_to_an_eighth_with_mirrored_border() -> None:
    images, matrices = draw_images(300), geometry("shift_whole_pixels", batch=300)
    found = apply_geometry(images, matrices)
    pixels = matrices[:, :2, 2] * (R / 2)
    torch.testing.assert_close(pixels, pixels.round(), rtol=0, atol=1e-5)
    assert set(pixels.round().int().flatten().tolist()) == {-2, -1, 0, 1, 2}
    rows = torch.arange(R)
    for image, moved, (x, y) in zip(images, found, pixels.round().int().tolist(), strict=True):

        def mirrored(shift: int) -> Tensor:
            at = rows + shift
            return torch.where(at < 0, -1 - at, torch.where(at >= R, 2 * R - 1 - at, at))

        expected = image[:, mirrored(y)][:, :, mirrored(x)]
        torch.testing.assert_close(moved, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("part", ["hue", "saturation"])
def test_hue_and_saturation_keep_luma_and_change_colour(part: str) -> None:
    images = draw_images(64)
    found = apply_colour(images, colour(part, batch=64))
    torch.testing.assert_close(found.mean(1), images.mean(1), rtol=0, atol=1e-5)
    assert (found - images).abs().amax((1, 2, 3)).min() > 1e-3


def test_hue_rotation_keeps_the_distance_from_grey() -> None:
    images = draw_images(64)
    found = apply_colour(images, colour("hue", batch=64))
    torch.testing.assert_close(found.std(1), images.std(1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 3])
def test_luma_flip_negates_luma_and_keeps_chroma_in_half_of_the_images(channels: int) -> None:
    images, matrices = draw_images(400, channels), colour("luma_flip", batch=400)
    found = apply_colour(images, matrices)
    negated = images - 2 * images.mean(1, keepdim=True)
    flipped = (found - images).abs().amax((1, 2, 3)) > 1e-3
    assert share(flipped) == pytest.approx(0.5, abs=0.1)
    expected = torch.where(flipped[:, None, None, None], negated, images)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_augment_grey_image_is_one_channel_of_the_same_image_in_rgb() -> None:
    grey = draw_images(32, channels=1)
    found = augment(grey, 1.0, generator(), "bgc")
    expected = augment(grey.repeat(1, 3, 1, 1), 1.0, generator(), "bgc")
    assert found.shape == grey.shape
    torch.testing.assert_close(found.expand(-1, 3, -1, -1), expected, rtol=1e-4, atol=1e-4)


def test_augment_proportion_of_changed_images_follows_p() -> None:
    images = draw_images(1000)
    found = augment(images, 0.3, generator(), "bgc")
    untouched = share((found - images).abs().amax((1, 2, 3)) < 1e-4)
    flips = (1 - 0.3 / 2) ** 2  # of the image and of luma: half of those chosen
    turn = 1 - 0.3 * 3 / 4
    shift = 1 - 0.3 * (1 - (1 / 4) ** 2)  # within ±2 pixels a quarter rounds to 0, in x and in y
    others = 0.7**8  # the two rotations count as one
    expected = flips * turn * shift * others
    assert untouched == pytest.approx(expected, abs=0.025)


@pytest.mark.parametrize("channels", [1, 3])
def test_augment_same_generator_state_gives_the_same_images(channels: int) -> None:
    images = draw_images(8, channels)
    first, second = (augment(images, 0.6, generator(7), "bgc") for _ in range(2))
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    assert (augment(images, 0.6, generator(8), "bgc") - first).abs().max() > 0.01


def test_augment_each_image_is_transformed_on_its_own() -> None:
    images = draw_images(8)
    other = images.clone()
    other[3] = -other[3].flip(0)
    first, second = (augment(x, 1.0, generator(), "bgc") for x in (images, other))
    kept = torch.arange(8) != 3
    torch.testing.assert_close(first[kept], second[kept], rtol=0, atol=0)
    same = augment(images[:1].expand(8, -1, -1, -1), 1.0, generator(), "bgc")
    assert all((same[i] - same[j]).abs().max() > 0.01 for i in range(8) for j in range(i))


@pytest.mark.parametrize("pipe", ["bgc", "upright"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_augment_keeps_the_type_and_computes_in_float32(pipe: Pipe, dtype: torch.dtype) -> None:
    images = draw_images(4).to(dtype)
    found = augment(images, 0.8, generator(), pipe)
    assert found.dtype == dtype
    expected = augment(images.float(), 0.8, generator(), pipe).to(dtype)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


@pytest.mark.parametrize("pipe", ["bgc", "upright"])
def test_augment_under_autocast_still_computes_in_float32(pipe: Pipe) -> None:
    images = draw_images(4)
    expected = augment(images, 0.8, generator(), pipe)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = augment(images, 0.8, generator(), pipe)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("pipe", ["bgc", "upright"])
def test_augment_gradient_is_that_of_a_linear_map(pipe: Pipe, channels: int) -> None:
    images = draw_images(4, channels).requires_grad_()
    direction, weights = draw_images(8, channels).chunk(2)
    found = augment(images, 1.0, generator(), pipe)
    (gradient,) = torch.autograd.grad((found * weights).sum(), images)
    assert gradient.abs().amax((1, 2, 3)).min() > 0
    with torch.no_grad():
        moved = augment(images + direction, 1.0, generator(), pipe) - found
    # affine in the images, so a whole step is exact up to float32: <A d, w> = <d, Aᵀ w>
    torch.testing.assert_close(
        (moved * weights).sum((1, 2, 3)),
        (direction * gradient).sum((1, 2, 3)),
        rtol=1e-3,
        atol=1e-2,
    )


def test_augment_second_derivative_equals_finite_differences() -> None:
    images = draw_images(2).requires_grad_()
    weights = torch.tensor(0.7, requires_grad=True)

    def penalty(weight: Tensor) -> Tensor:  # R1 of a discriminator x -> sum (weight x)³ / 100
        output = (weight * augment(images, 1.0, generator(), "bgc")).pow(3).sum() / 100
        (gradient,) = torch.autograd.grad(output, images, create_graph=True)
        return gradient.square().sum()

    value = penalty(weights)
    (found,) = torch.autograd.grad(value, weights)
    # the gradient grows as weight³, its square as weight⁶
    assert found.item() == pytest.approx(6 * value.item() / 0.7, rel=1e-4)


def test_augment_derivatives_of_the_resampling_pass_gradgradcheck() -> None:
    images = torch.rand(1, 1, 4, 4, dtype=torch.float64, generator=generator()).requires_grad_()
    matrix = geometry("rotate", batch=1).double()
    cubed = lambda x: apply_geometry(x, matrix).pow(3)  # noqa: E731
    assert torch.autograd.gradcheck(cubed, images)
    assert torch.autograd.gradgradcheck(cubed, images)


def test_augment_upright_at_a_small_probability_leaves_most_images() -> None:
    images = draw_images(200)
    found = augment(images, 0.05, generator())
    # float32 resampling grid: an untouched image is read back within 1e-5 of its range
    untouched = share((found - images).abs().amax((1, 2, 3)) < 1e-4)
    assert untouched == pytest.approx(0.95**7, abs=0.12)


@pytest.mark.parametrize("pipe", ["bgc", "upright"])
def test_augment_at_full_probability_changes_every_image(pipe: Pipe) -> None:
    images = draw_images(64)
    found = augment(images, 1.0, generator(3), pipe)
    assert found.shape == images.shape
    assert (found - images).abs().amax((1, 2, 3)).min() > 1e-3


def test_augment_unknown_pipe_or_channels_are_refused() -> None:
    with pytest.raises(ValueError, match="bgc or upright"):
        augment(draw_images(2), 0.5, generator(), "all")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="2 channels"):
        augment(draw_images(2, 2), 0.5, generator(), "bgc")

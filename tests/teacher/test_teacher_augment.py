"""Both pipelines of adaptive augmentation: each part alone, their product, gradients, types."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from pipeline.teacher import augment as application
from pipeline.teacher.augment import apply_colour, apply_geometry
from pipeline.teacher.augment_draws import (
    COLOUR,
    GEOMETRY,
    NUM_VALUES,
    PIPES,
    Draws,
    Pipe,
    draw_augmentation,
    draw_colour,
    draw_geometry,
)

R = 16


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draw_images(batch: int, channels: int = 3) -> Tensor:
    return torch.rand(batch, channels, R, R, generator=generator(1)) * 2 - 1


def augment(images: Tensor, p: float, draws: torch.Generator, pipe: Pipe = "upright") -> Tensor:
    drawn = draw_augmentation(pipe, len(images), images.shape[-1], p, draws)
    return application.augment(images, drawn)


def geometry(part: str, p: float = 1.0, batch: int = 4000) -> Tensor:
    return draw_geometry(Draws(batch, p, generator()), R, [part])


def colour(part: str, p: float = 1.0, batch: int = 4000) -> Tensor:
    return draw_colour(Draws(batch, p, generator()), [part])


def share(claim: Tensor) -> float:
    return claim.float().mean().item()


def test_augment_without_draws_returns_the_images() -> None:
    images = draw_images(4)
    assert application.augment(images, None) is images


@pytest.mark.parametrize("pipe", ["bgc", "upright"])
def test_draw_augmentation_at_zero_probability_changes_no_image(pipe: Pipe) -> None:
    images = draw_images(4)
    found = augment(images, 0.0, generator(), pipe)
    # float32 resampling grid: an untouched image is read back within 1e-5 of its range
    torch.testing.assert_close(found, images, rtol=0, atol=1e-4)


@pytest.mark.parametrize("pipe", ["bgc", "upright"])
def test_draw_augmentation_is_the_pipes_geometry_then_its_colour(pipe: Pipe) -> None:
    found = draw_augmentation(pipe, 6, R, 0.8, generator())
    geometry_parts, colour_parts = PIPES[pipe]
    draws = Draws(6, 0.8, generator())
    expected = [
        draw_geometry(draws, R, geometry_parts)[:, :2].reshape(6, 6),
        draw_colour(draws, colour_parts)[:, :3].reshape(6, 12),
    ]
    torch.testing.assert_close(found, torch.cat(expected, 1), rtol=0, atol=0)
    assert found.shape == (6, NUM_VALUES)


def test_draw_matrices_at_zero_probability_are_identities() -> None:
    draws = Draws(5, 0.0, generator())
    torch.testing.assert_close(draw_geometry(draws, R), torch.eye(3).expand(5, 3, 3))
    torch.testing.assert_close(draw_colour(draws), torch.eye(4).expand(5, 4, 4))


def test_draw_matrices_use_as_many_numbers_at_any_probability() -> None:
    states = []
    for p in (0.1, 0.9):
        draws = Draws(5, p, generator())
        draw_geometry(draws, R)
        draw_colour(draws)
        states.append(draws.generator.get_state())
    assert torch.equal(*states)


@pytest.mark.parametrize(
    ("part", "share_at_1"),
    [
        ("flip", 1 / 2),
        ("turn", 3 / 4),
        ("shift_whole_pixels", 1 - (1 / 4) ** 2),  # ±2 pixels: a quarter rounds to 0
        ("scale", 1),
        ("stretch", 1),
        ("shift", 1),
    ],
)
@pytest.mark.parametrize("p", [0.3, 1.0])
def test_draw_geometry_each_part_happens_with_probability_p(
    part: str, share_at_1: float, p: float
) -> None:
    moved = (geometry(part, p) - torch.eye(3)).abs().amax((1, 2)) > 1e-6
    assert share(moved) == pytest.approx(p * share_at_1, abs=0.04)


@pytest.mark.parametrize("p", [0.3, 0.7])
def test_draw_geometry_at_least_one_rotation_happens_with_probability_p(p: float) -> None:
    matrices = draw_geometry(Draws(4000, p, generator()), R, ["rotate", "rotate_again"])
    assert share((matrices - torch.eye(3)).abs().amax((1, 2)) > 1e-6) == pytest.approx(p, abs=0.03)


@pytest.mark.parametrize("part", ["brightness", "contrast", "hue", "saturation"])
def test_draw_colour_each_part_happens_with_probability_p(part: str) -> None:
    moved = (colour(part, 0.3) - torch.eye(4)).abs().amax((1, 2)) > 1e-6
    assert share(moved) == pytest.approx(0.3, abs=0.03)


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


def test_scale_stretch_rotate_and_shift_have_the_papers_distributions() -> None:
    scale, stretch = geometry("scale"), geometry("stretch")
    torch.testing.assert_close(scale[:, 0, 0], scale[:, 1, 1])
    assert scale[:, 0, 0].log2().std().item() == pytest.approx(0.2, rel=0.05)
    torch.testing.assert_close(stretch[:, 0, 0] * stretch[:, 1, 1], torch.ones(4000))
    assert stretch[:, 0, 0].log2().std().item() == pytest.approx(0.2, rel=0.05)
    rotation = geometry("rotate")
    angle = torch.atan2(rotation[:, 1, 0], rotation[:, 0, 0])
    assert angle.min() < -0.99 * math.pi
    assert angle.max() > 0.99 * math.pi
    assert angle.std().item() == pytest.approx(2 * math.pi / math.sqrt(12), rel=0.05)
    shift = geometry("shift")[:, :2, 2] / 2  # [-1, 1] is two images' shares wide
    assert shift.std(0).tolist() == pytest.approx([0.125, 0.125], rel=0.05)
    assert abs(torch.corrcoef(shift.T)[0, 1].item()) < 0.06


def test_draw_geometry_all_parts_is_the_product_in_the_papers_order() -> None:
    whole, parts = Draws(6, 0.8, generator()), Draws(6, 0.8, generator())
    expected = torch.eye(3)
    for name in PIPES["bgc"][0]:
        expected = expected @ GEOMETRY[name](parts, R)
    torch.testing.assert_close(draw_geometry(whole, R), expected)
    first_three = ["flip", "turn", "shift_whole_pixels"]
    assert PIPES["bgc"][0][:3] == first_three  # blitting first


def test_draw_colour_all_parts_applies_brightness_before_contrast() -> None:
    both = draw_colour(Draws(6, 1.0, generator()), ["brightness", "contrast"])
    contrast = both[:, 0, 0]
    draws = Draws(6, 1.0, generator())
    brightness = COLOUR["brightness"](draws)[:, 0, 3]
    torch.testing.assert_close(both[:, 0, 3], contrast * brightness)


def test_brightness_contrast_and_saturation_have_the_papers_distributions() -> None:
    assert colour("brightness")[:, 1, 3].std().item() == pytest.approx(0.2, rel=0.05)
    assert colour("contrast")[:, 1, 1].log2().std().item() == pytest.approx(0.5, rel=0.05)
    pure = colour("saturation")[:, :3, :3] @ torch.tensor([1.0, -1.0, 0.0])
    assert pure[:, 0].log2().std().item() == pytest.approx(1, rel=0.05)


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


def test_upright_alone_scales_stretches_turns_a_little_and_shifts() -> None:
    matrices = geometry("upright")
    columns = matrices[:, :2, :2].norm(dim=1)  # across and along: (scale * stretch, scale)
    assert columns[:, 1].log2().std().item() == pytest.approx(0.2, rel=0.05)
    assert (columns[:, 0] / columns[:, 1]).log2().std().item() == pytest.approx(0.2, rel=0.05)
    angle = torch.atan2(matrices[:, 1, 0], matrices[:, 0, 0]) * (180 / math.pi)
    assert 19.5 < angle.abs().max().item() <= 20 + 1e-3
    torch.testing.assert_close(torch.linalg.det(matrices), columns[:, :2].prod(1))  # no mirror
    shift = matrices[:, :2, 2] / 2
    assert shift.std(0).tolist() == pytest.approx([0.125, 0.125], rel=0.05)


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

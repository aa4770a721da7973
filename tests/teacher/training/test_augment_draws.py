"""What is drawn for each image: probabilities, distributions, and the product of all parts."""

from __future__ import annotations

import math

import pytest
import torch

from pipeline.teacher.training.augment_draws import (
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
from tests.support.augmentations import R, colour, generator, geometry, share


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

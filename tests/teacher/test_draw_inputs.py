"""What a sample is made from, latents, class and noise, depends on its seed and index alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from pipeline.generate.plan import make_recipe
from pipeline.seeding import numpy_generator
from pipeline.teacher.sampling import draw_inputs
from tests.tiny_teachers import CONFIG, NUM_CLASSES, TEACHERS, fake_info, stylegan2


def test_draw_inputs_classes_are_uniform() -> None:
    generator = TEACHERS["conditional"]()
    recipe = make_recipe(CONFIG, fake_info(generator))
    classes = draw_inputs(generator, recipe.sampling, np.arange(1000)).classes
    assert classes is not None
    counts = torch.bincount(classes, minlength=NUM_CLASSES)
    # 200 each with a standard deviation of 12.6: five of them
    assert (counts - 200).abs().max() < 64
    assert classes.max() < NUM_CLASSES


def test_draw_inputs_conditional_sample_does_not_depend_on_its_batch() -> None:
    generator = TEACHERS["conditional"]()
    recipe = make_recipe(CONFIG, fake_info(generator))
    together = draw_inputs(generator, recipe.sampling, np.arange(4, 10))
    assert together.classes is not None
    for row in range(6):
        alone = draw_inputs(generator, recipe.sampling, np.array([4 + row]))
        assert torch.equal(alone.z, together.z[row : row + 1])
        assert alone.classes is not None
        assert alone.classes.item() == together.classes[row]


@pytest.mark.parametrize("mode", ["const", "none"])
def test_draw_inputs_conditional_sample_does_not_depend_on_the_noise_mode(mode: str) -> None:
    """What a sample shows is (seed, index); noise is a detail of how."""
    generator = TEACHERS["conditional"]()
    recipe = make_recipe(CONFIG, fake_info(generator))
    expected = draw_inputs(generator, recipe.sampling, np.arange(50))
    found = draw_inputs(generator, replace(recipe, noise=mode).sampling, np.arange(50))
    assert torch.equal(found.z, expected.z)
    assert found.classes is not None
    assert expected.classes is not None
    assert torch.equal(found.classes, expected.classes)


def test_draw_inputs_latents_are_the_same_with_and_without_classes() -> None:
    plain, conditional = stylegan2(), stylegan2(num_classes=NUM_CLASSES)
    recipe = make_recipe(CONFIG, fake_info(plain))
    rows = np.arange(6)
    ours, theirs = (
        draw_inputs(plain, recipe.sampling, rows),
        draw_inputs(conditional, recipe.sampling, rows),
    )
    assert ours.classes is None
    assert ours.one_hot(0) is None
    assert torch.equal(ours.z, theirs.z)
    for map_, other in zip(ours.noise, theirs.noise, strict=True):
        assert isinstance(map_, torch.Tensor)
        assert isinstance(other, torch.Tensor)
        assert torch.equal(map_, other)


def test_draw_inputs_without_classes_are_the_first_numbers_of_the_samples_counter() -> None:
    """Pools rendered by earlier releases stay what they are."""
    generator = stylegan2()
    recipe = make_recipe(CONFIG, fake_info(generator))
    inputs = draw_inputs(generator, recipe.sampling, np.array([3, 1000]))
    sides = [4, 8, 8, 16, 16]
    for row, index in enumerate([3, 1000]):
        draws = numpy_generator(5, "generate", index)
        wanted = draws.standard_normal(8 + sum(r * r for r in sides), dtype=np.float32)
        found = [inputs.z[row]]
        for map_ in inputs.noise:
            assert isinstance(map_, torch.Tensor)
            found.append(map_[row].flatten())
        np.testing.assert_array_equal(torch.cat(found).numpy(), wanted)

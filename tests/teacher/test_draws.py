"""What a sample is made from, latents, class and noise, depends on its seed and index alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

from pipeline.generate.plan import make_recipe
from pipeline.samples.seeding import numpy_generator
from pipeline.teacher.description import Sampling
from pipeline.teacher.draws import (
    DEVICE_BLOCK,
    DrawnInputs,
    GeneratorInputs,
    InputSpec,
    draw_inputs,
    draw_on_device,
)
from tests.support.tiny_teachers import CONFIG, NUM_CLASSES, TEACHERS, fake_info, stylegan2


def test_draw_inputs_classes_are_uniform() -> None:
    generator = TEACHERS["conditional"]()
    recipe = make_recipe(CONFIG, fake_info(generator))
    classes = draw_inputs(generator, recipe.sampling, np.arange(1000)).classes
    assert classes is not None
    counts = torch.bincount(classes, minlength=NUM_CLASSES)
    # 200 each with a standard deviation of 12.6: five of them
    assert (counts - 200).abs().max() < 64
    assert classes.max() < NUM_CLASSES


def test_draw_inputs_of_chosen_classes_are_uniform_and_change_nothing_else() -> None:
    generator = TEACHERS["conditional"]()
    sampling = make_recipe(CONFIG, fake_info(generator)).sampling
    rows = np.arange(1000)
    chosen = draw_inputs(generator, replace(sampling, classes=(1, 3, 4)), rows)
    assert chosen.classes is not None
    counts = torch.bincount(chosen.classes, minlength=NUM_CLASSES)
    assert counts[0] == counts[2] == 0
    # 333 each with a standard deviation of 15: five of them
    assert (counts[[1, 3, 4]] - 333).abs().max() < 75
    assert torch.equal(chosen.z, draw_inputs(generator, sampling, rows).z)


def test_draw_inputs_of_all_classes_by_name_equal_those_of_none_chosen() -> None:
    generator = TEACHERS["conditional"]()
    sampling = make_recipe(CONFIG, fake_info(generator)).sampling
    whole = replace(sampling, classes=tuple(range(NUM_CLASSES)))
    first, second = (draw_inputs(generator, s, np.arange(50)).classes for s in (sampling, whole))
    assert first is not None
    assert second is not None
    assert torch.equal(first, second)


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


def flat(inputs: GeneratorInputs) -> torch.Tensor:
    """All numbers of inputs with random noise, [n, …]."""
    maps = [map_.flatten(1) for map_ in inputs.noise if isinstance(map_, torch.Tensor)]
    classes = [] if inputs.classes is None else [inputs.classes[:, None].float()]
    return torch.cat([inputs.z, *maps, *classes], 1)


def input_recipe(noise: str = "random", seed: int = 5) -> InputSpec:
    """Of a conditional teacher."""
    return InputSpec.of(TEACHERS["conditional"](), Sampling(seed, noise, 1.0, None))


def on_device(start: int, stop: int, recipe: InputSpec | None = None) -> GeneratorInputs:
    return draw_on_device(recipe or input_recipe(), np.arange(start, stop), torch.device("cpu"))


def test_drawn_inputs_in_parts_equal_those_drawn_at_once() -> None:
    indices = np.array([7, 3, 2**33, 0, 12])
    spec = input_recipe()
    spec = replace(spec, sampling=replace(spec.sampling, classes=(1, 2, 4)))
    whole, parts = (DrawnInputs(spec, indices) for _ in range(2))
    whole.draw()
    for start, stop in ((3, 5), (0, 1), (1, 1), (1, 3)):
        parts.draw(start, stop)
    expected, found = (flat(drawn.on(torch.device("cpu"))) for drawn in (whole, parts))
    assert torch.equal(found, expected)


@pytest.mark.parametrize("start", [0, 5, DEVICE_BLOCK - 1, 3 * DEVICE_BLOCK])
def test_draw_on_device_sample_does_not_depend_on_what_is_drawn_beside_it(start: int) -> None:
    """So that neither the number of workers nor the size of a batch changes a training."""
    together = flat(on_device(0, 4 * DEVICE_BLOCK))
    for count in (1, 2, DEVICE_BLOCK):
        found = flat(on_device(start, start + count))
        assert torch.equal(found, together[start : start + count])
    assert len(torch.unique(together[:, 0])) == len(together)


def test_draw_on_device_latents_are_normal_and_classes_uniform() -> None:
    inputs = on_device(0, 2000)
    assert stats.kstest(inputs.z.flatten().numpy(), "norm").pvalue > 1e-4
    assert isinstance(inputs.noise[-1], torch.Tensor)
    assert stats.kstest(inputs.noise[-1][:20].flatten().numpy(), "norm").pvalue > 1e-4
    assert inputs.classes is not None
    counts = torch.bincount(inputs.classes, minlength=NUM_CLASSES)
    # 400 each with a standard deviation of 18: five of them
    assert (counts - 400).abs().max() < 90
    assert len(counts) == NUM_CLASSES


def test_draw_on_device_of_chosen_classes_has_no_others_and_the_same_latents() -> None:
    spec = input_recipe()
    chosen = replace(spec, sampling=replace(spec.sampling, classes=(0, 4)))
    inputs = on_device(0, 200, chosen)
    assert inputs.classes is not None
    assert set(inputs.classes.tolist()) == {0, 4}
    assert torch.equal(inputs.z, on_device(0, 200).z)


def test_draw_on_device_what_a_sample_shows_depends_on_the_seed_and_not_on_the_noise() -> None:
    inputs, still = on_device(0, 9), on_device(0, 9, input_recipe("const"))
    assert still.noise == "const"
    assert torch.equal(still.z, inputs.z)
    assert inputs.classes is not None
    assert still.classes is not None
    assert torch.equal(still.classes, inputs.classes)
    assert not torch.equal(on_device(0, 9, input_recipe(seed=6)).z, inputs.z)


def test_draw_on_device_refuses_indices_with_gaps() -> None:
    with pytest.raises(ValueError, match="follow one another"):
        draw_on_device(input_recipe(), np.array([1, 3]), torch.device("cpu"))

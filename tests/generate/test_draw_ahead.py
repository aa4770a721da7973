"""GeneratorInputs drawn ahead, in threads, are those drawn when they are asked for."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from pipeline.generate.draw_ahead import NUM_AHEAD, InputDrawer
from pipeline.teacher.draws import InputSpec, draw_inputs
from tests.support.tiny_shards import pool_recipe, random_generator

CPU = torch.device("cpu")
SAMPLING = pool_recipe().sampling
BATCHES = [np.arange(start, start + size) for start, size in ((0, 7), (7, 7), (50, 1), (3, 2))]


def drawer(num_threads: int) -> InputDrawer:
    return InputDrawer(InputSpec.of(random_generator(), SAMPLING), CPU, num_threads)


@pytest.mark.parametrize("num_threads", [0, 1, 3, 16])
def test_drawer_gives_every_batch_its_inputs_in_order(num_threads: int) -> None:
    drawing, generator = drawer(num_threads), random_generator()
    found = list(drawing.draw(BATCHES))
    drawing.close()
    for indices, inputs in zip(BATCHES, found, strict=True):
        expected = draw_inputs(generator, SAMPLING, indices)
        assert torch.equal(inputs.z, expected.z)
        for map_, other in zip(inputs.noise, expected.noise, strict=True):
            assert isinstance(map_, torch.Tensor)
            assert isinstance(other, torch.Tensor)
            assert torch.equal(map_, other)


@pytest.mark.parametrize(("num_threads", "num_ahead"), [(0, 0), (2, NUM_AHEAD)])
def test_drawer_is_a_few_batches_ahead_and_no_more(num_threads: int, num_ahead: int) -> None:
    begun: list[int] = []

    def batches() -> Iterator[np.ndarray]:
        for number in range(10):
            begun.append(number)
            yield np.arange(number, number + 1)

    drawing = drawer(num_threads)
    inputs = drawing.draw(batches())
    next(inputs)
    assert len(begun) == 1 + num_ahead
    next(inputs)
    assert len(begun) == 2 + num_ahead
    drawing.close()


@pytest.mark.parametrize("num_threads", [0, 2])
def test_drawer_raises_what_went_wrong_in_drawing(num_threads: int) -> None:
    drawing = drawer(num_threads)
    with pytest.raises(OverflowError):
        list(drawing.draw([np.arange(3), np.array([-1, 5])]))
    drawing.close()

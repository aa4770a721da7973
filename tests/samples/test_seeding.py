"""Generators addressed by (seed, purpose, index)."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy import stats

from pipeline.samples.seeding import NumpyStreams, numpy_generator, torch_generator


def draw(seed: int = 0, purpose: str = "p", index: int = 0, count: int = 8) -> tuple[float, ...]:
    return tuple(numpy_generator(seed, purpose, index).standard_normal(count))


def test_numpy_generator_same_address_gives_the_same_stream_in_any_order() -> None:
    forwards = {index: draw(index=index) for index in range(20)}
    backwards = {index: draw(index=index) for index in reversed(range(20))}
    assert forwards == backwards


def test_numpy_generator_does_not_touch_the_global_state() -> None:
    np.random.seed(0)  # noqa: NPY002
    expected = np.random.rand()  # noqa: NPY002
    np.random.seed(0)  # noqa: NPY002
    draw()
    assert np.random.rand() == expected  # noqa: NPY002


def test_numpy_generator_every_part_of_the_address_matters() -> None:
    streams = {
        draw(seed, purpose, index)
        for seed, purpose, index in itertools.product((0, 1, 2**40), ("a", "b"), (0, 1, 255, 2**40))
    }
    assert len(streams) == 3 * 2 * 4


def test_numpy_generator_neighbouring_streams_do_not_overlap() -> None:
    first = draw(index=0, count=10_000)
    second = draw(index=1, count=10_000)
    assert not set(first) & set(second)


def test_numpy_generator_first_draws_over_indices_are_normal_and_uncorrelated() -> None:
    draws = np.array([draw(index=index, count=2) for index in range(4000)])
    assert stats.kstest(draws[:, 0], "norm").pvalue > 1e-4
    assert abs(np.corrcoef(draws[:-1, 0], draws[1:, 0])[0, 1]) < 0.07
    assert abs(np.corrcoef(draws.T)[0, 1]) < 0.07


def test_numpy_generator_stream_is_pinned() -> None:
    """The pool of a recipe must stay the same from one release to the next."""
    found = numpy_generator(0, "generate", 12345).standard_normal(3, dtype=np.float32)
    np.testing.assert_allclose(found, (0.0702873, -0.13846, -0.0895534), rtol=1e-5)


def test_numpy_streams_draw_what_a_generator_of_each_index_draws() -> None:
    """Whatever was drawn before: an odd number of halves of a word, part of a block."""
    streams = NumpyStreams(2, "p")
    for index in (0, 5, 2**40, 5, 1, 0):
        found, expected = streams.at(index), numpy_generator(2, "p", index)
        for stream in (found, expected):
            stream.integers(10)
        draws = [stream.standard_normal(7, dtype=np.float32) for stream in (found, expected)]
        np.testing.assert_array_equal(*draws)
        assert found.random() == expected.random()


@pytest.mark.parametrize("index", [0, 7])
def test_torch_generator_is_a_function_of_its_address(index: int) -> None:
    torch.manual_seed(index)
    first, second, other = (
        torch.rand(4, generator=torch_generator(0, "p", number))
        for number in (index, index, index + 1)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, other)

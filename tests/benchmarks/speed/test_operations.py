from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from benchmarks.speed.operations import count_work, memory_bytes

BATCH, SIDE, IN, OUT, CLASSES = 2, 4, 3, 5, 7
WEIGHT = OUT * IN * 9
INPUT, MAP = BATCH * IN * SIDE**2, BATCH * OUT * SIDE**2
FLAT = OUT * SIDE**2
CONV = 2 * BATCH * SIDE**2 * OUT * IN * 9  # operations of one convolution of these sizes
LINEAR = 2 * BATCH * FLAT * CLASSES


def hand_counted_network(dtype: torch.dtype = torch.float32) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(IN, OUT, 3, padding=1, bias=False),
        nn.BatchNorm2d(OUT),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(FLAT, CLASSES),
    ).to(dtype)


def images(dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.ones(BATCH, IN, SIDE, SIDE, dtype=dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_work_of_a_forward_pass_is_that_counted_by_hand(dtype: torch.dtype) -> None:
    network, x = hand_counted_network(dtype), images(dtype)

    work = count_work(lambda: network(x))

    convolution = INPUT + WEIGHT + MAP
    linear = MAP + FLAT * CLASSES + CLASSES + BATCH * CLASSES  # map, weight, bias, result
    assert work.operations == {str(dtype).removeprefix("torch."): CONV + LINEAR}
    assert work.num_bytes == dtype.itemsize * (convolution + linear)


def test_work_of_a_backward_pass_is_that_counted_by_hand() -> None:
    network = hand_counted_network()
    out = network(images())
    gradient = torch.ones_like(out)

    work = count_work(lambda: out.backward(gradient))

    # gradients of the map, from result and weight, and of the weight, from result and map
    linear = 2 * (BATCH * CLASSES + FLAT * CLASSES + MAP)
    # of the weight alone, as images need none: map's gradient, images and weight in, one out
    convolution = MAP + INPUT + 2 * WEIGHT
    assert work.total == CONV + 2 * LINEAR
    assert work.num_bytes == 4 * (linear + convolution)


def test_linear_layer_in_inference_mode_is_counted() -> None:
    layer, x = nn.Linear(3, 4, bias=False), torch.ones(2, 3)

    with torch.inference_mode():
        work = count_work(lambda: layer(x))

    assert work.total == 2 * 2 * 3 * 4
    assert work.num_bytes == 4 * (2 * 3 + 3 * 4 + 2 * 4)


def test_compiled_function_is_counted_as_it_was_written() -> None:
    def compile_to_nothing(*_: object) -> Callable[..., tuple[torch.Tensor]]:
        return lambda *_: (torch.zeros(3, 3),)

    @torch.compile(backend=compile_to_nothing)
    def product(x: torch.Tensor) -> torch.Tensor:
        return x @ x.T

    x = torch.ones(3, 4)
    assert not product(x).any()  # compiled by now

    assert count_work(lambda: product(x)).total == 2 * 3 * 4 * 3


def test_memory_of_expanded_and_repeated_tensors_counts_once() -> None:
    x = torch.ones(3, 4)

    assert memory_bytes([x, x.T, x.expand(5, 3, 4)]) == 4 * 12
    assert memory_bytes([torch.ones(4).expand(3, 4)]) == 4 * 4
    assert memory_bytes([x, x.clone()]) == 2 * 4 * 12
    assert count_work(lambda: x @ x.T).num_bytes == 4 * (12 + 9)


@pytest.mark.parametrize(
    ("build", "traffic"),
    [
        (lambda weights: torch.optim.SGD(weights, 0.1), 3),  # weight in and out, gradient
        (lambda weights: torch.optim.SGD(weights, 0.1, momentum=0.9), 5),  # and the momentum
    ],
)
def test_optimiser_moves_its_weights_and_state_beside_the_products(
    build: Callable[..., torch.optim.Optimizer], traffic: int
) -> None:
    weight = nn.Parameter(torch.ones(6, 4))
    without_gradient = nn.Parameter(torch.ones(100))
    optimizer = build([weight, without_gradient])

    def multiply() -> None:
        (weight @ torch.ones(4, 2)).sum().backward()

    def train() -> None:
        multiply()
        optimizer.step()

    products, step = count_work(multiply), count_work(train)
    assert step.num_bytes == products.num_bytes + traffic * 4 * 24
    assert step.total == products.total == 2 * (2 * 6 * 4 * 2)

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.random_shards import write_random_shards
from benchmarks.speed.ceilings import Ceilings, highest, measure_ceilings
from benchmarks.speed.operations import Work, count_work, counting, memory_bytes
from benchmarks.speed.profiling import covered, measure_gpu_use, profile_operators
from benchmarks.speed.roofline_parts import count_step, teacher_step
from benchmarks.speed.step_rows import StepReader, open_random_shards
from benchmarks.speed.train_ours import PARTS, TrainingStep
from pipeline.config.root import Config
from pipeline.teacher.training.step import TeacherTrainer

CPU = torch.device("cpu")
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
    assert work.num_calls >= 5


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
def test_optimiser_moves_its_weights_and_state_under_its_own_part(
    build: Callable[..., torch.optim.Optimizer], traffic: int
) -> None:
    weight = nn.Parameter(torch.ones(6, 4))
    without_gradient = nn.Parameter(torch.ones(100))
    optimizer = build([weight, without_gradient])

    with counting() as counter:
        counter.part = "before"
        (weight @ torch.ones(4, 2)).sum().backward()
        optimizer.step()
        torch.ones(2, 2) @ torch.ones(2, 2)

    assert counter.works["optimiser"].num_bytes == traffic * 4 * 24
    assert counter.works["optimiser"].total == 0
    forward_and_backward = 2 * (2 * 6 * 4 * 2)
    assert counter.works["before"].total == forward_and_backward + 2 * 2 * 2 * 2


def tiny_config() -> Config:
    teacher = {"z_dim": 8, "w_dim": 8, "channel_base": 64, "channel_max": 8, "global_batch": 4}
    return Config.model_validate(
        {
            "name": "tiny",
            "real": {"resolution": 8},
            "teacher": teacher,
            "train": {"global_batch": 8, "student": {"width": 4, "embedding_dim": 16}},
        }
    )


def test_operations_of_a_student_step_are_those_that_torch_counts(tmp_path: Path) -> None:
    config = tiny_config()
    shards = open_random_shards(tmp_path, write_random_shards(config, 20, tmp_path))
    step = TrainingStep(config.train, shards, CPU)

    works = count_step(step)
    with FlopCounterMode(display=False) as reference:
        step.run()

    assert set(works) == set(PARTS)
    assert sum(work.total for work in works.values()) == reference.get_total_flops()
    parameters = sum(parameter.numel() for parameter in step.method.parameters())
    assert works["optimiser"].num_bytes == 5 * 4 * parameters


def test_teacher_step_has_penalties_when_asked_and_updates_both_networks() -> None:
    config = tiny_config()
    trainer = TeacherTrainer(config.teacher, config.real.resolution, CPU)
    ordinary = teacher_step(trainer, config.real.resolution)
    with_penalties = teacher_step(trainer, config.real.resolution, has_penalties=True)

    with counting() as counter:
        ordinary()
    again, penalised = count_work(ordinary), count_work(with_penalties)

    assert again.total == sum(work.total for work in counter.works.values())
    assert penalised.total > again.total
    networks = (trainer.generator, trainer.discriminator)
    parameters = sum(p.numel() for network in networks for p in network.parameters())
    # weights and Adam's two moments in and out, gradients in; and a counter for each parameter
    adam = 7 * 4 * parameters
    assert adam <= counter.works["optimiser"].num_bytes < 1.1 * adam


def test_reader_takes_as_many_rows_as_a_step(tmp_path: Path) -> None:
    config = tiny_config()
    shards = open_random_shards(tmp_path, write_random_shards(config, 20, tmp_path))

    rows = StepReader(shards, config.train).read()

    assert len(rows.synthetic) == len(rows.pooled) == config.train.num_synthetic
    assert len(rows.real) == config.train.num_real
    assert rows.pooled.shape[1] == sum(shards.block_channels)


def test_floor_is_the_longer_of_arithmetic_and_memory() -> None:
    ceilings = Ceilings(
        products={"float32": 10.0, "bfloat16": 100.0},
        copies={"device": 1000.0, "host": 10.0, "upload": 1.0},
    )
    work = Work({"float32": 20.0, "bfloat16": 100.0}, num_bytes=500)

    on_device, on_host = ceilings.floor(work), ceilings.floor(work, "host")

    assert (on_device.seconds, on_device.binds) == (3.0, "arithmetic")
    assert (on_host.seconds, on_host.binds) == (50.0, "memory")
    with pytest.raises(KeyError, match="TF32"):
        ceilings.floor(Work({"TF32": 1.0}))


def test_ceilings_of_a_cpu_are_positive_and_the_highest_is_kept() -> None:
    ceilings = Ceilings({"float32": 10.0}, {"device": 1.0, "host": 5.0})
    faster = Ceilings({"float32": 9.0}, {"device": 2.0, "host": 4.0})

    assert highest(ceilings, faster) == Ceilings({"float32": 10.0}, {"device": 2.0, "host": 5.0})
    measured = measure_ceilings(1, CPU)
    assert set(measured.products) == {"float32"}
    assert set(measured.copies) == {"device", "host"}
    assert all(rate > 1e8 for rate in (*measured.products.values(), *measured.copies.values()))


def test_covered_time_counts_overlaps_once() -> None:
    assert covered([]) == 0
    assert covered([(5.0, 7.0), (0.0, 2.0), (1.0, 3.0), (1.5, 2.5), (3.0, 4.0)]) == 6


def test_profile_finds_the_operators_of_a_task_longest_first() -> None:
    x = torch.ones(64, 64)

    def task() -> None:
        x @ x
        x @ x[:, :1]

    for by_shape, expected in (
        (False, {(): 2}),
        (True, {((64, 64), (64, 64)): 1, ((64, 64), (64, 1)): 1}),
    ):
        operators = profile_operators(task, CPU, by_shape=by_shape)
        seconds = [operator.seconds for operator in operators]
        products = [operator for operator in operators if operator.name == "aten::mm"]
        assert seconds == sorted(seconds, reverse=True)
        assert {operator.shapes: operator.num_calls for operator in products} == expected


def test_use_of_a_gpu_is_not_measured_on_a_cpu() -> None:
    assert measure_gpu_use(lambda: pytest.fail("is not run"), 1, CPU) is None


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_use_of_a_gpu_by_products_is_high_and_by_waiting_low() -> None:
    device = torch.device("cuda")
    x = torch.ones(4096, 4096, device=device)
    small = torch.ones(1, device=device)

    busy = measure_gpu_use(lambda: [x @ x for _ in range(10)], 5, device)
    idle = measure_gpu_use(lambda: [small.add(1).item() for _ in range(10)], 5, device)

    assert busy is not None
    assert idle is not None
    assert busy.busy_share > 0.8 > 0.5 > idle.busy_share > 0
    assert busy.kernels_per_step >= 10
    assert idle.kernels_per_step == idle.launches_per_step == 10

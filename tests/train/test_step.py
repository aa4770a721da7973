"""A training step in half precision and compiled, beside the plain one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from benchmarks.measure import waits_raise
from pipeline.config.train import TrainConfig
from pipeline.engine.gpu import LossGuard, choose_compile_mode, choose_precision, on_host
from pipeline.train.data import TrainingShards
from pipeline.train.step import StudentTrainer
from shards.errors import UserError
from tests.support.tiny_shards import TRAIN_CONFIG
from tests.support.trainings import (
    CPU,
    METHODS,
    changed,
    config_of,
    make_method,
    open_stream,
    shards_of,
)

NUM_STEPS = 4


def train(
    config: TrainConfig,
    training_shards: TrainingShards,
    prepare: Callable[[StudentTrainer], None] = lambda trainer: None,
) -> tuple[StudentTrainer, list[float]]:
    """A trainer after some steps, and their losses."""
    shards = shards_of(config, training_shards)
    trainer = StudentTrainer(config, make_method(config, shards.block_channels), CPU)
    prepare(trainer)
    stream, losses = open_stream(shards, config), []
    for step in range(NUM_STEPS):
        output = trainer.losses(stream.batch(step), step)
        trainer.update(output, step, epoch=0)
        losses.append(output.loss.item())
    return trainer, losses


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_step_in_bfloat16_is_near_float32_with_losses_and_weights_in_float32(
    training_shards: TrainingShards, name: str
) -> None:
    config = config_of(name)
    _, exact = train(config, training_shards)
    half, found = train(changed(config, precision="bfloat16"), training_shards)
    assert {p.dtype for p in half.method.parameters()} == {torch.float32}
    assert found != exact
    # bfloat16 has 8 bits, and each step's difference grows in the next; the losses fall by more
    assert found == pytest.approx(exact, rel=0.1, abs=0.1)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of what torch.compile imports
@pytest.mark.parametrize(
    ("batch_norm", "name"),
    [
        ("joint", "squeeze and span"),
        ("separate", "squeeze and span"),
        ("joint", "release"),
        ("joint", "vicreg both"),
        ("joint", "simsiam both"),
        ("joint", "encoding both"),
    ],
)
def test_whole_forward_pass_is_one_graph_without_breaks(
    training_shards: TrainingShards, name: str, batch_norm: str
) -> None:
    config = changed(config_of(name), batch_norm=batch_norm)
    shards = shards_of(config, training_shards)
    method = make_method(config, shards.block_channels)
    batch = open_stream(shards, config).batch(0)
    torch._dynamo.reset()
    with torch.autocast("cpu", torch.bfloat16):
        found = torch._dynamo.explain(method)(batch)
    assert (found.graph_count, found.graph_break_count) == (1, 0), found.break_reasons


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_training_compiles_once_and_lets_go_of_gradients(training_shards: TrainingShards) -> None:
    graphs: list[int] = []

    def backend(graph: torch.fx.GraphModule, _: object) -> Callable[..., object]:
        graphs.append(len(graph.graph.nodes))
        return graph.forward

    torch._dynamo.reset()
    trainer, _ = train(
        TRAIN_CONFIG,
        training_shards,
        lambda trainer: trainer.method.compile(backend=backend, dynamic=False),
    )
    assert len(graphs) == 1
    assert all(parameter.grad is None for parameter in trainer.method.parameters())


def test_choices_on_a_cpu_are_float32_and_no_compilation() -> None:
    assert choose_precision("auto", CPU) == torch.float32
    assert choose_precision("bfloat16", CPU) == torch.bfloat16
    assert choose_compile_mode("auto", CPU) is None
    assert choose_compile_mode("off", CPU) is None
    assert choose_compile_mode("reduce-overhead", CPU) == "reduce-overhead"


def test_loss_guard_on_a_cpu_names_the_step_at_once() -> None:
    guard = LossGuard()
    guard.watch(torch.tensor(1.0), "step 1")
    with pytest.raises(UserError, match="step 2"):
        guard.watch(torch.tensor(float("nan")), "step 2")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_loss_guard_on_a_gpu_names_the_step_before_anything_is_saved() -> None:
    guard = LossGuard()
    guard.watch(torch.tensor(float("nan"), device="cuda"), "step 1")
    with pytest.raises(UserError, match="step 1"):
        guard.settle()
    guard.settle()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_step_on_a_gpu_does_not_wait_for_it(training_shards: TrainingShards) -> None:
    device = torch.device("cuda")
    trainer = StudentTrainer(
        TRAIN_CONFIG, make_method(TRAIN_CONFIG, training_shards.block_channels), device
    )
    from pipeline.train.data import BatchStream

    stream = BatchStream(
        training_shards, TRAIN_CONFIG, type(trainer.method), device, rank=0, num_workers=1
    )
    trainer.update(trainer.losses(stream.batch(0), 0), 0, epoch=0)
    with waits_raise():
        trainer.update(trainer.losses(stream.batch(1), 1), 1, epoch=0)
    assert on_host(stream.batch(2).pooled.cpu().numpy(), device).is_pinned()  # type: ignore[union-attr]

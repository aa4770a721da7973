"""Samples rendered for a training are on a CPU those of the pool, and never the same twice."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks.measure import waits_raise
from pipeline.engine.state import load_state
from pipeline.samples.seeding import torch_generator
from pipeline.teacher import draws
from pipeline.teacher.description import Sampling
from pipeline.teacher.networks.stylegan2 import Generator
from pipeline.train.data import TrainingShards
from pipeline.train.online import OnlineSamples
from shards.pool import PoolReader
from tests.support.tiny_shards import (
    ARCHITECTURE,
    BLOCKS,
    FEATURES,
    RESOLUTION,
    TRAIN_CONFIG,
    pool_recipe,
    random_generator,
)
from tests.support.trainings import changed, open_stream, parts_of, run_training

ONLINE = changed(TRAIN_CONFIG, source="online", epochs=2)


def open_online(render_batch: int = 8) -> OnlineSamples:
    return OnlineSamples(random_generator(), pool_recipe().sampling, BLOCKS, render_batch)


def online_shards(training_shards: TrainingShards) -> TrainingShards:
    return TrainingShards(training_shards.real, open_online(), RESOLUTION)


def test_online_samples_are_those_of_a_pool_of_the_same_sampling(
    training_shards: TrainingShards,
) -> None:
    pool = training_shards.synthetic
    assert isinstance(pool, PoolReader)
    rows = np.array([3, 0, 21])
    images, pooled = open_online().render(rows)
    # single precision sums in another order; the pool rounds features to half precision
    stored = pool.images.gather("image", rows).astype(np.int64)
    assert np.abs(images.numpy().astype(np.int64) - stored).max() <= 1
    features = pool.gather_features(FEATURES, rows).astype(np.float32)
    np.testing.assert_allclose(pooled.numpy(), features, rtol=2e-3, atol=1e-3)


@pytest.mark.parametrize("render_batch", [1, 3, 100])
def test_online_samples_do_not_depend_on_how_many_are_rendered_at_once(render_batch: int) -> None:
    rows = np.arange(5, 12)
    images, pooled = open_online(render_batch).render(rows)
    expected_images, expected_pooled = open_online().render(rows)
    assert (images.int() - expected_images.int()).abs().max() <= 1
    torch.testing.assert_close(pooled, expected_pooled, rtol=1e-4, atol=1e-5)


def test_online_samples_may_be_trained_on(training_shards: TrainingShards) -> None:
    _, pooled = open_online().render(np.arange(2))
    layer = torch.nn.Linear(pooled.shape[1], 1)
    layer(pooled).sum().backward()  # refused for tensors of inference mode


def test_online_stream_shows_fresh_samples_in_every_step(training_shards: TrainingShards) -> None:
    shards = online_shards(training_shards)
    assert shards.block_channels == training_shards.block_channels
    stream = open_online()
    size = ONLINE.num_synthetic
    batches = open_stream(shards, ONLINE)
    for step in (0, 7):
        _, expected = stream.render(np.arange(step * size, (step + 1) * size))
        torch.testing.assert_close(parts_of(batches.batch(step))["pooled"], expected)


def test_online_stream_parts_of_two_workers_are_the_single_workers_batch(
    training_shards: TrainingShards,
) -> None:
    shards = online_shards(training_shards)
    whole = parts_of(open_stream(shards, ONLINE).batch(2))
    parts = [parts_of(open_stream(shards, ONLINE, rank, 2).batch(2)) for rank in (0, 1)]
    for name, expected in whole.items():
        joined = torch.cat([part[name] for part in parts])
        # a level of 255 in a pixel, from sums in another order, and what normalisation makes of it
        torch.testing.assert_close(joined, expected, rtol=1e-4, atol=0.03)


@pytest.mark.slow
def test_online_training_killed_and_resumed_equals_uninterrupted(
    training_shards: TrainingShards, tmp_path: Path
) -> None:
    shards = online_shards(training_shards)
    config = ONLINE.model_copy(update={"epochs": 10})

    class KilledError(Exception):
        pass

    def kill(*_: object) -> None:
        raise KilledError

    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
    with pytest.raises(KilledError):
        run_training(config, shards, tmp_path / "parts", "f", kill)
    for name in ("whole", "parts"):
        run_training(config, shards, tmp_path / name, "f", lambda *_: None)
    students = [(tmp_path / n / "student.safetensors").read_bytes() for n in ("whole", "parts")]
    assert students[0] == students[1]
    state = load_state(tmp_path / "parts" / "checkpoint.pt", torch.device("cpu"))
    assert state is not None
    assert state["synthetic"] == ["drawn on cpu"]


def test_sampling_of_another_seed_gives_other_samples() -> None:
    other = OnlineSamples(random_generator(), Sampling(99, "random", 1.0, None), BLOCKS, 8)
    ours, _ = open_online().render(np.arange(3))
    theirs, _ = other.render(np.arange(3))
    assert (ours != theirs).any((1, 2, 3)).all()


class _OnTheHost(TorchDispatchMode):
    """Operators that read or make something on the CPU: what a GPU would have to wait for."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        result = operator(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, Tensor)]
        if any(tensor.device.type == "cpu" for tensor in tensors) or "local_scalar" in str(
            operator
        ):
            self.seen.append(str(operator))
        return result


@pytest.mark.parametrize("num_classes", [0, 3])
def test_online_samples_of_a_gpu_touch_nothing_on_the_host(
    monkeypatch: pytest.MonkeyPatch, num_classes: int
) -> None:
    monkeypatch.setattr(  # one of a GPU cannot be made without it
        draws, "torch_generator", lambda *address: torch_generator(*address[:3])
    )
    architecture = replace(ARCHITECTURE, num_classes=num_classes)
    with FakeTensorMode():
        with torch.device("cuda"):
            generator = Generator(architecture).eval().requires_grad_(False)
        online = OnlineSamples(generator, pool_recipe().sampling, BLOCKS, 8)
        with _OnTheHost() as host:
            images, pooled = online.render(np.arange(5, 25))
    assert host.seen == []
    assert (images.device.type, pooled.device.type) == ("cuda", "cuda")
    assert images.shape == (20, 3, 16, 16)
    assert images.dtype == torch.uint8
    assert pooled.shape == (20, sum(width for _, width in BLOCKS))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of what torch.compile imports
def test_online_samples_compiled_are_one_graph_and_equal_the_plain_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compiled, graphs = torch.compile, []

    # up to the code that it writes, which takes half a minute on a CPU
    def capture(function: Any, **_: object) -> Any:
        def count(graph: Any, _inputs: object) -> Any:
            graphs.append(graph)
            return graph.forward

        return compiled(function, backend=count, dynamic=False, fullgraph=True)

    monkeypatch.setattr(torch, "compile", capture)
    blocks = [*BLOCKS[:2], ("w", ARCHITECTURE.w_dim)]
    arguments = (pool_recipe().sampling, blocks, 4)
    plain = OnlineSamples(random_generator(), *arguments)
    captured = OnlineSamples(random_generator(), *arguments, "default")
    for first in (0, 8, 16):
        rows = np.arange(first, first + 8)
        for found, expected in zip(captured.render(rows), plain.render(rows), strict=True):
            assert torch.equal(found, expected)
    assert len(graphs) == 1


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_online_samples_of_a_gpu_do_not_depend_on_the_worker() -> None:
    def render(first: int, count: int) -> tuple[Tensor, Tensor]:
        generator = random_generator().to("cuda")
        online = OnlineSamples(generator, pool_recipe().sampling, BLOCKS, 8)
        with waits_raise():
            return online.render(np.arange(first, first + count))

    images, pooled = render(0, 32)
    for first in (0, 16):
        part, features = render(first, 16)
        assert (part.int() - images[first : first + 16].int()).abs().max() <= 1
        torch.testing.assert_close(features, pooled[first : first + 16], rtol=1e-3, atol=1e-3)

"""Batches on a pretended GPU: what is uploaded, that nothing waits, and what comes of it."""

from __future__ import annotations

from contextlib import closing

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from pipeline.train import resident
from pipeline.train.build import method_class
from pipeline.train.data import BatchStream, TrainingShards
from tests.support.fake_cuda import FAKE_CUDA, fake_cuda
from tests.support.gpu_copies import Copies, Copy
from tests.support.tiny_shards import TRAIN_CONFIG
from tests.support.trainings import METHODS, config_of, open_stream, parts_of, shards_of

CUDA = torch.device("cuda")


@pytest.fixture(params=["streamed", "resident"])
def gpu_memory(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Much of it, or none."""
    free = 1 << 40 if request.param == "resident" else 0
    monkeypatch.setattr(resident, "free_memory", lambda device: free)


@pytest.mark.usefixtures("gpu_memory")
@pytest.mark.parametrize("name", METHODS)
def test_batch_reaches_a_gpu_by_one_copy_and_waits_for_nothing(
    name: str, training_shards: TrainingShards
) -> None:
    config = config_of(name)
    shards, method = shards_of(config, training_shards), method_class(config.method)
    with FakeTensorMode(allow_non_fake_inputs=True):
        stream = BatchStream(shards, config, method, CUDA, rank=0, num_workers=1)
        with closing(stream), Copies() as copies:
            batch = stream.batch(0)  # what asks for a value raises
    assert copies.found == [Copy("cpu", "cuda", waits=False)]
    assert {part.device.type for part in parts_of(batch).values()} == {"cuda"}


@pytest.mark.usefixtures("gpu_memory")
@pytest.mark.parametrize("name", METHODS)
def test_batches_on_a_gpu_are_those_on_a_cpu_and_wait_for_nothing(
    name: str, training_shards: TrainingShards
) -> None:
    config = config_of(name)
    shards, method = shards_of(config, training_shards), method_class(config.method)
    streaming = config.model_copy(update={"resident": "off"})
    with closing(open_stream(shards, streaming)) as stream:
        expected = [parts_of(stream.batch(step)) for step in range(3)]
    with fake_cuda() as cuda:
        gpu_stream = BatchStream(shards, config, method, FAKE_CUDA, rank=0, num_workers=1)
        cuda.waits.clear()
        with closing(gpu_stream):
            batches = [parts_of(gpu_stream.batch(step)) for step in range(3)]
        assert cuda.waits == []
        found = [{name: part.to("cpu") for name, part in batch.items()} for batch in batches]
    for one, other in zip(found, expected, strict=True):
        assert one.keys() == other.keys()
        for part in other:
            # 2e-5 of the views' two forms, over a standard deviation of 0.2
            torch.testing.assert_close(one[part], other[part], rtol=0, atol=1e-4)


def test_batch_stream_with_resident_shards_off_never_asks_for_memory(
    training_shards: TrainingShards, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resident, "free_memory", None)
    config = TRAIN_CONFIG.model_copy(update={"resident": "off"})
    method = method_class(config.method)
    cpu = torch.device("cpu")
    BatchStream(training_shards, config, method, cpu, rank=0, num_workers=1).close()

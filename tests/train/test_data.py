"""Batches on a GPU, as far as fake tensors tell: what is uploaded, and that nothing waits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from pipeline.train import resident
from pipeline.train.build import method_class
from pipeline.train.data import BatchStream, TrainingShards
from tests.gpu_copies import Copies, Copy
from tests.tiny_shards import TRAIN_CONFIG
from tests.trainings import METHODS, config_of, parts_of, shards_of

CUDA = torch.device("cuda")


@pytest.fixture(params=["streamed", "resident"])
def fake_gpu(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """CUDA tensors without values, on a device with much or no memory."""
    free = 1 << 40 if request.param == "resident" else 0
    monkeypatch.setattr(resident, "free_memory", lambda device: free)
    with FakeTensorMode(allow_non_fake_inputs=True):
        yield


@pytest.mark.usefixtures("fake_gpu")
@pytest.mark.parametrize("name", METHODS)
def test_batch_reaches_a_gpu_by_one_copy_and_waits_for_nothing(
    name: str, training_shards: TrainingShards
) -> None:
    config = config_of(name)
    shards, method = shards_of(config, training_shards), method_class(config.method)
    stream = BatchStream(shards, config, method, CUDA, rank=0, num_workers=1)
    with closing(stream), Copies() as copies:
        batch = stream.batch(0)  # what asks for a value raises
    assert copies.found == [Copy("cpu", "cuda", waits=False)]
    assert {part.device.type for part in parts_of(batch).values()} == {"cuda"}


def test_batch_stream_with_resident_shards_off_never_asks_for_memory(
    training_shards: TrainingShards, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resident, "free_memory", None)
    config = TRAIN_CONFIG.model_copy(update={"resident": "off"})
    method = method_class(config.method)
    cpu = torch.device("cpu")
    BatchStream(training_shards, config, method, cpu, rank=0, num_workers=1).close()

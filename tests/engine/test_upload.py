"""One upload of tensors of any kind."""

from __future__ import annotations

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from pipeline.engine.upload import HostBlock, prepare_upload
from tests.support.gpu_copies import Copies, Copy

CPU = torch.device("cpu")
IMAGES = torch.arange(2 * 3 * 5 * 5, dtype=torch.uint8).view(2, 3, 5, 5)
TENSORS = {
    "bytes": IMAGES,
    "channels-last": IMAGES.to(memory_format=torch.channels_last),
    "a part of a larger one": torch.arange(20.0)[3:9],
    "every other element": torch.arange(20.0)[::2],
    "one view for all": torch.tensor([[1.0, 2.0]]).expand(5, 2),
    "half precision": torch.linspace(-1, 1, 7).half(),
    "indices": torch.tensor([2**40, -1]),
    "truths": torch.tensor([True, False, True]),
    "a number": torch.tensor(3.5, dtype=torch.float64),
    "nothing": torch.empty(0, 4),
}


@pytest.mark.parametrize("name", TENSORS)
def test_host_block_gives_back_each_tensor_in_its_memory_format(name: str) -> None:
    tensor = TENSORS[name]
    (before, found, after) = HostBlock([[IMAGES[0, 0, :1], tensor, IMAGES]], CPU).on_device()[0]
    assert (found.dtype, found.shape) == (tensor.dtype, tensor.shape)
    assert torch.equal(found, tensor)
    assert found.stride() == torch.empty_like(tensor).stride()
    assert torch.equal(before, IMAGES[0, 0, :1])
    assert torch.equal(after, IMAGES)


def test_host_block_keeps_groups_apart_empty_ones_too() -> None:
    groups = [[IMAGES], [], list(TENSORS.values())]
    found = HostBlock(groups, CPU).on_device()
    assert [len(group) for group in found] == [1, 0, len(TENSORS)]


def test_host_block_does_not_follow_later_changes() -> None:
    tensor = torch.zeros(3)
    block = HostBlock([[tensor]], CPU)
    tensor += 1
    assert torch.equal(block.on_device()[0][0], torch.zeros(3))


def test_prepare_upload_for_a_cpu_copies_nothing() -> None:
    groups = [[IMAGES], [], list(TENSORS.values())]
    assert prepare_upload(groups, CPU)() is groups


def test_prepare_upload_reaches_a_gpu_by_one_copy_that_does_not_wait() -> None:
    with FakeTensorMode(allow_non_fake_inputs=True):
        upload = prepare_upload([[IMAGES], list(TENSORS.values())], torch.device("cuda"))
        with Copies() as copies:
            groups = upload()
    assert copies.found == [Copy("cpu", "cuda", waits=False)]
    assert {tensor.device.type for group in groups for tensor in group} == {"cuda"}

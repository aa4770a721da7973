"""The count of waits sees each kind, and only those."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tests.support.fake_cuda import FAKE_CUDA, fake_cuda

WAITS: dict[str, Callable[[Tensor], object]] = {
    "item": lambda x: x.sum().item(),
    "float": lambda x: float(x.sum()),
    "if": lambda x: bool(x.sum() > 0),
    "tolist": lambda x: x.tolist(),
    "equal": lambda x: torch.equal(x, x + 1),
    "nonzero": lambda x: x.nonzero(),
    "where with one argument": lambda x: torch.where(x > 0),
    "mask read": lambda x: x[x > 0],
    "mask written": lambda x: x.index_put_((x > 0,), x.new_zeros(())),
    "masked_select": lambda x: x.masked_select(x > 0),
    "unique": lambda x: x.unique(),
    "repeat_interleave": lambda x: x.repeat_interleave(torch.ones_like(x, dtype=torch.long)),
    "unpinned copy": lambda x: torch.ones(4).to(FAKE_CUDA, non_blocking=True),
    "blocking copy": lambda x: torch.ones(4).pin_memory().to(FAKE_CUDA),
    "copy in place": lambda x: x.copy_(torch.ones(4)),
    "index on the host": lambda x: x[torch.tensor([0, 2])],
    "constant": lambda x: torch.tensor([1.0, 2.0], device=FAKE_CUDA),
    "copy to the host": lambda x: x.cpu(),
    "copy into the host's memory": lambda x: torch.empty(4).copy_(x),
    "synchronize": lambda x: torch.cuda.synchronize(),
}


@pytest.mark.parametrize("name", WAITS)
def test_fake_cuda_counts_a_planted_wait(name: str) -> None:
    with fake_cuda() as cuda:
        x = torch.arange(4.0, device=FAKE_CUDA)
        assert cuda.waits == []
        WAITS[name](x)
        assert len(cuda.waits) == 1
        assert __file__ in cuda.waits[0]


NO_WAITS: dict[str, Callable[[Tensor], object]] = {
    "arithmetic": lambda x: (x + 1) * x.mean() / 3,
    "views": lambda x: x.view(2, 2)[1].expand(3, 2),
    "pinned copy": lambda x: torch.ones(4).pin_memory()[1:].to(FAKE_CUDA, non_blocking=True),
    "pinned copy in place": lambda x: x.copy_(torch.ones(4).pin_memory(), non_blocking=True),
    "pinned from the start": lambda x: torch.empty(4, pin_memory=True).to(
        "cuda", non_blocking=True
    ),
    "copy to the host": lambda x: x.to("cpu", non_blocking=True),
    "copy on the device": lambda x: x.to(torch.float64),
    "number of the host": lambda x: x * torch.tensor(3.0),
    "rows by index": lambda x: x.index_select(0, torch.zeros(2, dtype=torch.long, device="cuda")),
    "where": lambda x: torch.where(x > 1, x, 0.0),
    "random": lambda x: torch.randn(3, generator=torch.Generator(FAKE_CUDA), device=FAKE_CUDA),
    "the host's own": lambda x: [(torch.ones(4) > 0).nonzero(), torch.ones(3).tolist()],
}


@pytest.mark.parametrize("name", NO_WAITS)
def test_fake_cuda_counts_nothing_else(name: str) -> None:
    with fake_cuda() as cuda:
        NO_WAITS[name](torch.arange(4.0, device=FAKE_CUDA))
        assert cuda.waits == []


def test_fake_cuda_event_is_a_wait_until_more_was_given_out() -> None:
    with fake_cuda() as cuda:
        x = torch.ones(4, device=FAKE_CUDA)
        event = torch.cuda.Event()
        event.record()
        event.synchronize()
        assert len(cuda.waits) == 1
        x.add_(1)
        event.synchronize()
        assert len(cuda.waits) == 1


def test_fake_cuda_mixed_devices_are_refused_as_on_a_gpu() -> None:
    with fake_cuda(), pytest.raises(RuntimeError, match="on the CPU and on the GPU"):
        torch.ones(4, device=FAKE_CUDA) + torch.ones(4)


def test_fake_cuda_values_and_gradients_are_the_cpus() -> None:
    def work(device: torch.device) -> list[Tensor]:
        torch.manual_seed(0)
        network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
        network = network.to(device, memory_format=torch.channels_last)
        optimizer = torch.optim.SGD(network.parameters(), 0.1, momentum=0.9)
        images = torch.arange(2 * 3 * 25.0, device=device).view(2, 3, 5, 5).sin()
        for _ in range(2):
            optimizer.zero_grad()
            network(images).square().mean().backward()
            optimizer.step()
        assert {p.device for p in network.parameters()} == {device}
        return [p.detach().cpu() for p in network.parameters()]

    expected = work(torch.device("cpu"))
    with fake_cuda():
        found = work(FAKE_CUDA)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)

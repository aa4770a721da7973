"""Statistics over the global batch: gathered embeddings and batch normalisation, with exact
gradients.

Every worker computes the same global loss from gathered embeddings. The gather's backward sums the
gradients of all workers, which makes them W times too large; DDP averages over the W workers and
restores the exact gradient of the one global loss.
"""

from __future__ import annotations

from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

Module = TypeVar("Module", bound=nn.Module)


def num_workers() -> int:
    """Training processes in this run."""
    return dist.get_world_size() if dist.is_initialized() else 1


def worker_rank() -> int:
    """Index of this process among them."""
    return dist.get_rank() if dist.is_initialized() else 0


def gather_batch(local: Tensor) -> Tensor:
    """Concatenate [n, …] of every worker to [W n, …], rank 0 first, differentiably."""
    return local if num_workers() == 1 else _gather(local)


def synchronise_batch_norm(module: Module, device: torch.device) -> Module:
    """`module` with batch statistics over all workers; unchanged for a single one.

    torch's `SyncBatchNorm` runs on GPUs only, so on the CPU `GlobalBatchNorm` stands in.
    """
    if num_workers() == 1:
        return module
    if device.type == "cuda":
        converted: Module = nn.SyncBatchNorm.convert_sync_batchnorm(module)
        return converted
    for child in module.modules():
        if isinstance(child, (nn.BatchNorm1d, nn.BatchNorm2d)):
            child.__class__ = _GLOBAL[type(child)]  # type: ignore[assignment]
    return module


class _Sum(torch.autograd.Function):
    """Sum over workers; every worker's loss depends on every input, so gradients are summed
    likewise.
    """

    @staticmethod
    def forward(ctx: Any, local: Tensor) -> Tensor:
        total = local.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return total


class _Gather(torch.autograd.Function):
    """Concatenation over workers; backward sums the workers' gradients and keeps one's own rows."""

    @staticmethod
    def forward(ctx: Any, local: Tensor) -> Tensor:
        parts = [torch.empty_like(local) for _ in range(num_workers())]
        dist.all_gather(parts, local.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return total.chunk(num_workers())[worker_rank()]


def _sum_over_workers(local: Tensor) -> Tensor:
    result: Tensor = _Sum.apply(local)  # type: ignore[no-untyped-call]
    return result


def _gather(local: Tensor) -> Tensor:
    result: Tensor = _Gather.apply(local)  # type: ignore[no-untyped-call]
    return result


class _GlobalStatistics(_BatchNorm):
    """Forward of batch normalisation with mean and variance of the global batch [W n, C, …]."""

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.momentum is not None
        dims = [0, *range(2, input.dim())]
        count = num_workers() * input.numel() // input.shape[1]
        mean = _sum_over_workers(input.sum(dims)) / count
        shape = [1, -1] + [1] * (input.dim() - 2)
        centred = input - mean.view(shape)
        variance = _sum_over_workers(centred.square().sum(dims)) / count
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)
            if self.num_batches_tracked is not None:
                self.num_batches_tracked += 1
        scaled: Tensor = centred * (variance + self.eps).rsqrt().view(shape)
        return scaled * self.weight.view(shape) + self.bias.view(shape)


class GlobalBatchNorm1d(_GlobalStatistics, nn.BatchNorm1d):
    """`nn.BatchNorm1d` over all workers, for the CPU."""


class GlobalBatchNorm2d(_GlobalStatistics, nn.BatchNorm2d):
    """`nn.BatchNorm2d` over all workers, for the CPU."""


_GLOBAL = {nn.BatchNorm1d: GlobalBatchNorm1d, nn.BatchNorm2d: GlobalBatchNorm2d}

"""Sums and concatenations over the workers of a training, with exact gradients of any order.

Every worker computes the same global loss from gathered rows. The gather's backward sums the
gradients of all workers, which makes them W times too large; averaging parameter gradients over the
W workers, as DDP does, restores the exact gradient of the one global loss. With a single process
everything here is the identity.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


def num_workers() -> int:
    """Training processes in this run."""
    return dist.get_world_size() if dist.is_initialized() else 1


def worker_rank() -> int:
    """Index of this process among them."""
    return dist.get_rank() if dist.is_initialized() else 0


def worker_part(size: int) -> slice:
    """This worker's rows of a global batch of `size`, which the workers divide.

    Raises:
        ValueError: if they do not.
    """
    if size % num_workers():
        raise ValueError(f"{num_workers()} workers cannot share {size} rows")
    part = size // num_workers()
    return slice(worker_rank() * part, (worker_rank() + 1) * part)


def gather_batch(local: Tensor) -> Tensor:
    """Concatenate [n, …] of every worker to [W n, …], rank 0 first, differentiably."""
    if num_workers() == 1:
        return local
    result: Tensor = _Gather.apply(local)  # type: ignore[no-untyped-call]
    return result


def sum_over_workers(local: Tensor) -> Tensor:
    """Sum of `local` over the workers, differentiably; every worker gets it."""
    if num_workers() == 1:
        return local
    result: Tensor = _Sum.apply(local)  # type: ignore[no-untyped-call]
    return result


def mean_over_workers(local: Tensor) -> Tensor:
    """Mean of `local` over the workers, without a gradient."""
    return sum_over_workers(local.detach()) / num_workers()


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace every gradient by its mean over the workers, in one message."""
    if num_workers() == 1:
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
    dist.all_reduce(flat)
    flat /= num_workers()
    parts = flat.split([gradient.numel() for gradient in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view_as(gradient))


class _Sum(torch.autograd.Function):
    """Every worker's loss depends on every input, so gradients are summed likewise."""

    @staticmethod
    def forward(ctx: Any, local: Tensor) -> Tensor:
        total = local.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return _Sum.apply(gradient.contiguous())  # type: ignore[no-untyped-call]


class _Gather(torch.autograd.Function):
    """Concatenation over workers."""

    @staticmethod
    def forward(ctx: Any, local: Tensor) -> Tensor:
        parts = [torch.empty_like(local) for _ in range(num_workers())]
        dist.all_gather(parts, local.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return _SumRows.apply(gradient)  # type: ignore[no-untyped-call]


class _SumRows(torch.autograd.Function):
    """The adjoint of the gather: sum over workers, then one's own rows."""

    @staticmethod
    def forward(ctx: Any, gathered: Tensor) -> Tensor:
        total = gathered.contiguous().clone()
        dist.all_reduce(total)
        return total.chunk(num_workers())[worker_rank()].clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return _Gather.apply(gradient.contiguous())  # type: ignore[no-untyped-call]

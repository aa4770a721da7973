"""Batch normalisation over the global batch, with exact gradients.

Neighbours: `engine/collectives.py` has the sums over workers, `step.py` converts its networks.
"""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from pipeline.engine.collectives import num_workers, sum_over_workers
from shards.errors import UserError

Module = TypeVar("Module", bound=nn.Module)


def synchronise_batch_norm(module: Module, device: torch.device) -> Module:
    """`module` with batch statistics over all workers; unchanged for a single one.

    torch's `SyncBatchNorm` runs on GPUs only, so on the CPU `GlobalBatchNorm` stands in.

    Raises:
        UserError: for layers that only derive from torch's, which neither could replace: what they
            add, such as the activation in timm's, would be lost.
    """
    if num_workers() == 1:
        return module
    for child in module.modules():
        if isinstance(child, _BatchNorm) and type(child) not in _GLOBAL:
            raise UserError(
                f"train.student.architecture: its {type(child).__name__} has no statistics over "
                "several workers; set ray.train_workers=1 or choose another"
            )
    if device.type == "cuda":
        converted: Module = nn.SyncBatchNorm.convert_sync_batchnorm(module)
        return converted
    for child in module.modules():
        if isinstance(child, (nn.BatchNorm1d, nn.BatchNorm2d)):
            child.__class__ = _GLOBAL[type(child)]  # type: ignore[assignment]
    return module


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
        mean = sum_over_workers(input.sum(dims)) / count
        shape = [1, -1] + [1] * (input.dim() - 2)
        centred = input - mean.view(shape)
        variance = sum_over_workers(centred.square().sum(dims)) / count
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)
            if self.num_batches_tracked is not None:
                self.num_batches_tracked += 1
        scaled: Tensor = centred * (variance + self.eps).rsqrt().view(shape)
        if not self.affine:
            return scaled
        return scaled * self.weight.view(shape) + self.bias.view(shape)


class GlobalBatchNorm1d(_GlobalStatistics, nn.BatchNorm1d):
    """`nn.BatchNorm1d` over all workers, for the CPU."""


class GlobalBatchNorm2d(_GlobalStatistics, nn.BatchNorm2d):
    """`nn.BatchNorm2d` over all workers, for the CPU."""


_GLOBAL = {nn.BatchNorm1d: GlobalBatchNorm1d, nn.BatchNorm2d: GlobalBatchNorm2d}

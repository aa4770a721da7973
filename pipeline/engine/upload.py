"""One upload for all that a step brings to its device.

Every copy to a GPU costs a launch, whatever its size, and one from pageable memory a wait. So the
threads that load steps ahead (`samples/stream.py`) put a step's tensors end to end into one
page-locked block, which the device copies by itself. Neighbours: `train/data.py` and
`eval/probes/labelled_views.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_ALIGNMENT_BYTES = 64  # every dtype, vectorised kernels and cache lines


Groups = Sequence[Sequence[Tensor]]


def prepare_upload(groups: Groups, device: torch.device) -> Callable[[], Groups]:
    """What brings these tensors of the CPU to the device when it is called: by one copy that
    nothing waits for; on a CPU they are there, and are left as they are.
    """
    return (lambda: groups) if device.type == "cpu" else HostBlock(groups, device).on_device


@dataclass(frozen=True)
class _Place:
    """Where a tensor lies in the block."""

    start: int
    dtype: torch.dtype
    shape: torch.Size
    strides: tuple[int, ...]

    @property
    def stop(self) -> int:
        return self.start + math.prod(self.shape) * self.dtype.itemsize

    def view(self, block: Tensor) -> Tensor:
        part = block[self.start : self.stop].view(self.dtype)
        return part.as_strided(self.shape, self.strides)


class HostBlock:
    """Tensors of the CPU, in groups, as one block of bytes; page-locked for a GPU.

    Args:
        groups: any dtypes and shapes; their values and memory formats are kept.
        device: where the block is to go.
    """

    def __init__(self, groups: Groups, device: torch.device) -> None:
        self._device = device
        self._places: list[list[_Place]] = []
        num_bytes = 0
        for group in groups:
            self._places.append([])
            for tensor in group:
                strides = torch.empty_like(tensor, device="meta").stride()
                place = _Place(num_bytes, tensor.dtype, tensor.shape, strides)
                self._places[-1].append(place)
                num_bytes = -(-place.stop // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES
        is_pinned = device.type == "cuda"
        self._block = torch.empty(num_bytes, dtype=torch.uint8, pin_memory=is_pinned)
        for part, tensors in zip(self._views(self._block), groups, strict=True):
            for target, tensor in zip(part, tensors, strict=True):
                target.copy_(tensor)

    def on_device(self) -> list[list[Tensor]]:
        """The groups on the device."""
        return self._views(self._block.to(self._device, non_blocking=True))

    def _views(self, block: Tensor) -> list[list[Tensor]]:
        return [[place.view(block) for place in group] for group in self._places]

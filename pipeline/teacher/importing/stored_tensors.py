"""Tensors of a file as it describes them, unread and unchecked until `to_tensor` is called: the
caller pays only for those it wants, and believes nothing.

Neighbours: `storages.py` has the numbers, `stored_arrays.py` the arrays of numpy.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from pipeline.teacher.importing.inert import Inert, brief, to_extents
from pipeline.teacher.importing.storages import Storage
from shards.errors import UserError

MAX_NETWORK_BYTES = 8 * 2**30
MAX_SHARING = 4
"""Bytes of tensors for each byte of their file, above `FREE_BYTES`: more than tied weights make."""
FREE_BYTES = 64 * 2**20


class Stored(ABC):
    """A tensor of a file, not yet loaded."""

    __slots__ = ()
    path: Path

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """As the file says; raises UserError where it says none."""

    @abstractmethod
    def to_tensor(self) -> Tensor:
        """The tensor: on the CPU, contiguous, in memory of its own, without gradient.

        Raises:
            UserError: naming the file whose data or description of the tensor is not sound.
        """


@dataclass(eq=False)
class StoredTensor(Inert, Stored):
    """A torch tensor of a pickle or torch file."""

    path: Path = field(repr=False)
    storage: Storage = field(repr=False)
    offset: Any
    size: Any
    stride: Any

    @property
    def shape(self) -> tuple[int, ...]:
        """See `Stored`."""
        try:
            return to_extents(self.size)
        except ValueError as error:
            raise unsound(self.path, "tensor", brief(error)) from None

    def to_tensor(self) -> Tensor:
        """See `Stored`."""
        try:
            num_stored = self.storage.num_stored()
        except Exception as error:
            raise UserError(
                f"{self.path}: a weights-only load refuses the payload of a tensor "
                f"({brief(error)}); fetch the file again"
            ) from None
        try:
            size, stride = to_extents(self.size), to_extents(self.stride)
            (offset,) = to_extents([self.offset])
            num = math.prod(size)
            reach = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
            # No more elements than the storage has: strides of 0 would make much out of little.
            if num > num_stored or (num and reach >= num_stored):
                raise ValueError(f"{size} at {offset} with strides {stride} of {num_stored}")
            if num and reach + 1 - offset == num:
                part = self.storage.read(offset, num)  # no more than the tensor itself
                return part.as_strided(size, stride).contiguous()
            storage, dtype = self.storage.load()
            view = torch.empty(0, dtype=dtype).set_(storage, offset, size, stride)
            return view.clone(memory_format=torch.contiguous_format)
        except Exception as error:
            raise unsound(self.path, "tensor", brief(error)) from None


@dataclass(eq=False)
class StoredEntry(Stored):
    """A tensor of a safetensors file."""

    path: Path
    name: str
    extents: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """See `Stored`."""
        return self.extents

    def to_tensor(self) -> Tensor:
        """See `Stored`."""
        try:
            with safe_open(self.path, "pt") as file:
                tensor: Tensor = file.get_tensor(self.name)
        except (SafetensorError, OSError) as error:
            raise unsound(self.path, "tensor", brief(error)) from None
        return tensor


class WeightBudget:
    """Turns what is stored into tensors, of one network no more than its file may hold: many may
    share one storage, and each is a copy.
    """

    def __init__(self) -> None:
        self._left = MAX_NETWORK_BYTES

    def load(self, stored: Stored) -> Tensor:
        """The tensor of `stored`; raises as its `to_tensor`, and ValueError when it is too much."""
        tensor = stored.to_tensor()
        self._left -= tensor.nbytes
        if self._left < 0:
            raise ValueError(f"more than {MAX_NETWORK_BYTES >> 30} GiB of weights")
        num_loaded = MAX_NETWORK_BYTES - self._left
        if num_loaded > FREE_BYTES + MAX_SHARING * stored.path.stat().st_size:
            raise ValueError(f"its tensors share storage: {num_loaded >> 20} MiB and more of them")
        return tensor


def unsound(path: Path, kind: str, reason: str) -> UserError:
    """A mistake of the file in its description of a tensor or array."""
    return UserError(
        f"{path}: a {kind} is damaged or not of numbers ({reason}); fetch the file again"
    )

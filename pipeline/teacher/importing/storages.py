"""The numbers that tensors of a file share: a part of the file, or bytes within a pickle.

Neighbour: `stored_tensors.py` has the tensors.
"""

from __future__ import annotations

import io
import warnings
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pipeline.teacher.importing.inert import Inert, to_extents
from pipeline.teacher.importing.pickle_guard import scan_payload

STORAGE_DTYPES = {
    *(torch.float16, torch.bfloat16, torch.float32, torch.float64),
    *(torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.bool),
}


@dataclass(frozen=True)
class StorageType(Inert):
    """A storage's class, such as `torch.FloatStorage`: the type of its numbers."""

    dtype: torch.dtype


class Storage(Inert, ABC):
    """The numbers that tensors of a file share."""

    __slots__ = ()

    @abstractmethod
    def load(self) -> tuple[torch.UntypedStorage, torch.dtype]:
        """The storage and the type of its elements; raises whatever damage causes."""

    def num_stored(self) -> int:
        """How many elements it has; raises as `load`."""
        storage, dtype = self.load()
        return storage.nbytes() // dtype.itemsize

    def read(self, start: int, num: int) -> Tensor:
        """`num` elements from `start`, in memory of their own; raises as `load`."""
        storage, dtype = self.load()
        return torch.empty(0, dtype=dtype).set_(storage, start, (num,), (1,)).clone()


class StoredSpan(Storage):
    """`num_bytes` of a file from `start`."""

    __slots__ = ("_loaded", "_path", "dtype", "num_bytes", "start")

    def __init__(self, path: Path, start: int, num_bytes: int, dtype: torch.dtype) -> None:
        self._path, self.start, self.num_bytes, self.dtype = path, start, num_bytes, dtype
        self._loaded: torch.UntypedStorage | None = None

    @property
    def end(self) -> int:
        """Where the file goes on."""
        return self.start + self.num_bytes

    def check(self, dtype: torch.dtype, num: Any) -> None:
        """Raise ValueError unless these are `num` numbers of `dtype`."""
        (num,) = to_extents([num])
        if dtype != self.dtype or num * dtype.itemsize != self.num_bytes:
            raise ValueError(f"{num} numbers of {dtype} in {self.num_bytes} bytes")

    def load(self) -> tuple[torch.UntypedStorage, torch.dtype]:
        """See `Storage`; kept, for tensors that share it."""
        if self._loaded is None:
            num = self.num_stored()
            self._loaded = self.read(0, num).untyped_storage() if num else torch.UntypedStorage(0)
        return self._loaded, self.dtype

    def num_stored(self) -> int:
        """See `Storage`."""
        return self.num_bytes // self.dtype.itemsize

    def read(self, start: int, num: int) -> Tensor:
        """See `Storage`; nothing else of the file is read."""
        num_bytes = num * self.dtype.itemsize
        with self._path.open("rb") as file:
            file.seek(self.start + start * self.dtype.itemsize)
            content = bytearray(num_bytes)
            if file.readinto(content) < num_bytes:
                raise ValueError("the file ends within a tensor")
        return torch.frombuffer(content, dtype=self.dtype)


class StoredPayload(Storage):
    """The bytes that `torch.storage._load_from_bytes` would run; loaded once, then dropped."""

    __slots__ = ("_loaded", "_raw")

    def __init__(self, raw: object) -> None:
        self._raw = raw
        self._loaded: tuple[torch.UntypedStorage, torch.dtype] | None = None

    def load(self) -> tuple[torch.UntypedStorage, torch.dtype]:
        """See `Storage`."""
        if self._loaded is None:
            raw = self._raw
            if not isinstance(raw, bytes) or raw.startswith(b"PK"):
                raise ValueError("no storage of torch")
            num_bytes = scan_payload(raw)
            with warnings.catch_warnings():  # TypedStorage is deprecated, and what such files hold
                warnings.simplefilter("ignore")
                typed = torch.load(io.BytesIO(raw), map_location="cpu", weights_only=True)
                if not isinstance(typed, torch.TypedStorage):
                    raise ValueError("not a typed storage")
                storage: torch.UntypedStorage = typed.untyped()
            if storage.nbytes() != num_bytes or typed.dtype not in STORAGE_DTYPES:
                raise ValueError(f"{storage.nbytes()} bytes of {typed.dtype} out of {num_bytes}")
            self._loaded = storage, typed.dtype
            self._raw = b""
        return self._loaded

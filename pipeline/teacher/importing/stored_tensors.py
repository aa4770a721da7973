"""Tensors and arrays of a file as it describes them, unread and unchecked until `to_tensor` is
called: the caller pays only for those it wants, and believes nothing.
"""

from __future__ import annotations

import io
import math
import pickle
import re
import warnings
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from pipeline.teacher.importing.pickle_guard import scan_payload
from shards.errors import UserError

MAX_DIMS = 8
MAX_NETWORK_BYTES = 8 * 2**30
MAX_SHARING = 4
"""Bytes of tensors for each byte of their file, above `FREE_BYTES`: more than tied weights make."""
FREE_BYTES = 64 * 2**20
STORAGE_DTYPES = {
    *(torch.float16, torch.bfloat16, torch.float32, torch.float64),
    *(torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.bool),
}
NUMPY_DTYPE = re.compile(r"[<>=|]?(?:b1|\?|f[248]|[iu][1248])")


class Inert:
    """A stand-in that refuses BUILD, which would otherwise set attributes of the file's choice."""

    __slots__ = ()

    def __setstate__(self, state: object) -> None:
        raise pickle.UnpicklingError(f"state for a {type(self).__name__}")


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
            raise _unsound(self.path, "tensor", brief(error)) from None

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
            raise _unsound(self.path, "tensor", brief(error)) from None


@dataclass(eq=False)
class StoredArray(Stored):
    """A numpy array of a pickle; the tensor has native byte order."""

    path: Path = field(repr=False)
    extents: Any = None
    dtype: Any = None
    is_fortran: Any = None
    raw: Any = field(default=None, repr=False)

    def __setstate__(self, state: Any) -> None:
        _, self.extents, self.dtype, self.is_fortran, self.raw = state

    @property
    def shape(self) -> tuple[int, ...]:
        """See `Stored`."""
        try:
            return to_extents(self.extents)
        except ValueError as error:
            raise _unsound(self.path, "array", brief(error)) from None

    def to_tensor(self) -> Tensor:
        """See `Stored`."""
        try:
            shape, dtype, raw = (
                to_extents(self.extents),
                _resolve_dtype(self.dtype),
                to_bytes(self.raw),
            )
            if math.prod(shape) * dtype.itemsize != len(raw):
                raise ValueError(f"{shape} of {dtype} in {len(raw)} bytes")
            array = np.ndarray(shape, dtype, raw, order="F" if self.is_fortran else "C")
            return torch.from_numpy(array.astype(dtype.newbyteorder("="), order="C"))
        except Exception as error:
            raise _unsound(self.path, "array", brief(error)) from None


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
            raise _unsound(self.path, "tensor", brief(error)) from None
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


class StoredDType:
    """The two parts of a `numpy.dtype` that matter here."""

    __slots__ = ("byte_order", "text")

    def __init__(self, text: object, *flags: object) -> None:
        self.text = text
        self.byte_order: object = "="

    def __setstate__(self, state: Any) -> None:
        self.byte_order = state[1]


def read_scalar(dtype: Any, raw: Any = b"") -> int | float | bool:
    """A numpy scalar as Python's own number."""
    resolved = _resolve_dtype(dtype)
    if len(raw) != resolved.itemsize:
        raise pickle.UnpicklingError("a number of another size than its type")
    number: int | float | bool = np.frombuffer(to_bytes(raw), resolved)[0].item()
    return number


def _resolve_dtype(dtype: Any) -> np.dtype[Any]:
    if not isinstance(dtype, StoredDType) or dtype.byte_order not in ("<", ">", "=", "|"):
        raise ValueError("no type, or no byte order")
    if not isinstance(dtype.text, str) or not NUMPY_DTYPE.fullmatch(dtype.text):
        raise ValueError("a type other than a number's")
    resolved = np.dtype(dtype.text)
    return resolved if dtype.byte_order in "=|" else resolved.newbyteorder(dtype.byte_order)


def to_bytes(content: Any) -> Any:
    """Bytes, which Python 2 and protocol 2 write as a latin-1 string."""
    if not isinstance(content, str | bytes | bytearray):
        raise ValueError("no bytes")
    return content.encode("latin1") if isinstance(content, str) else content


def to_extents(numbers: Any) -> tuple[int, ...]:
    """Counts, such as a shape; raises ValueError for anything else."""
    if not isinstance(numbers, list | tuple) or len(numbers) > MAX_DIMS:
        raise ValueError("no shape")
    if not all(type(number) is int and number >= 0 for number in numbers):
        raise ValueError("a shape of other things than counts")
    return tuple(numbers)


def _unsound(path: Path, kind: str, reason: str) -> UserError:
    return UserError(
        f"{path}: a {kind} is damaged or not of numbers ({reason}); fetch the file again"
    )


def brief(error: object) -> str:
    """One printable line; the text of an error may hold what a file wants printed."""
    return ascii(str(error) or type(error).__name__)[1:-1][:120]

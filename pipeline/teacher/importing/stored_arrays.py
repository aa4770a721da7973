"""Arrays and numbers of numpy in a pickle, checked before they are made.

Neighbour: `stored_tensors.py` does it for torch.
"""

from __future__ import annotations

import math
import pickle
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.teacher.importing.inert import brief, to_extents
from pipeline.teacher.importing.stored_tensors import Stored, unsound

NUMPY_DTYPE = re.compile(r"[<>=|]?(?:b1|\?|f[248]|[iu][1248])")


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
            raise unsound(self.path, "array", brief(error)) from None

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
            raise unsound(self.path, "array", brief(error)) from None


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

"""Reads the official StyleGAN2 pickles as plain data: the importer's way into files whose own
loader runs Python source found inside them.

A pickle is a program, so nothing that it names is ever looked up. Every global on a short list is
played by an inert stand-in of this module, any other is noted and refused. Before that, one pass
over the opcodes refuses files made to exhaust memory or time. Tensors and arrays stay descriptions
until `to_tensor` checks them, so that the caller pays only for those it wants.
"""

from __future__ import annotations

import io
import math
import pickle
import re
import warnings
from collections.abc import Callable, Iterable, Sized
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from pipeline.teacher.pickle_guard import check_tree, scan_opcodes, scan_payload
from shards.errors import UserError

MAX_FILE_BYTES = 16 * 2**30
MAX_DIMS = 8
PICKLE_HEADS = {bytes((0x80, protocol)) for protocol in (2, 3, 4, 5)}
TORCH_SAVE_HEAD = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46"  # of torch.save before it wrote zip files

STORAGE_DTYPES = {
    *(torch.float16, torch.bfloat16, torch.float32, torch.float64),
    *(torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.bool),
}
NUMPY_DTYPE = re.compile(r"[<>=|]?(?:b1|\?|f[248]|[iu][1248])")


def read_pickle(path: Path) -> Any:
    """The content of an official pickle, protocol 2 to 5, as plain data; nothing is executed.

    Containers, strings and numbers are Python's own (numpy scalars and `EasyDict` included); what
    else there may be is a `StoredTensor`, `StoredArray`, `PersistentModule` or
    `TensorFlowNetwork`. The result is a tree of bounded depth: it can be walked by recursion.

    Raises:
        UserError: naming the file and what is wrong with it, for anything else than such a pickle.
    """
    if not path.is_file():
        raise UserError(f"{path}: there is no such file; give the pickle to read")
    try:
        with path.open("rb") as file:
            size, head = path.stat().st_size, file.read(len(TORCH_SAVE_HEAD))
            if not 0 < size <= MAX_FILE_BYTES:
                raise UserError(
                    f"{path}: {'too large' if size else 'empty'}; use the official file"
                )
            if head[:2] not in PICKLE_HEADS or head == TORCH_SAVE_HEAD:
                raise UserError(
                    f"{path}: not a pickle of official networks; for weights from torch.save or "
                    "safetensors give the JSON of the architecture with --architecture"
                )
            file.seek(0)
            return _read(path, file, size)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({_brief(error)}); check the disk") from None


class _Inert:
    """A stand-in that refuses BUILD, which would otherwise set attributes of the file's choice."""

    __slots__ = ()

    def __setstate__(self, state: object) -> None:
        raise pickle.UnpicklingError(f"state for a {type(self).__name__}")


@dataclass(eq=False)
class StoredTensor(_Inert):
    """A torch tensor of the file, not yet loaded nor checked."""

    path: Path = field(repr=False)
    storage: _Payload = field(repr=False)
    offset: Any
    size: Any
    stride: Any

    def to_tensor(self) -> Tensor:
        """The tensor: on the CPU, contiguous, in memory of its own, without gradient.

        Raises:
            UserError: naming the file whose payload or description of the tensor is not sound.
        """
        try:
            storage, dtype = self.storage.load()
        except Exception as error:
            raise UserError(
                f"{self.path}: a weights-only load refuses the payload of a tensor "
                f"({_brief(error)}); use the official file"
            ) from None
        try:
            size, stride = _extents(self.size), _extents(self.stride)
            (offset,) = _extents([self.offset])
            num, num_stored = math.prod(size), storage.nbytes() // dtype.itemsize
            reach = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
            # No more elements than the storage has: strides of 0 would make much out of little.
            if num > num_stored or (num and reach >= num_stored):
                raise ValueError(f"{size} at {offset} with strides {stride} of {num_stored}")
            view = torch.empty(0, dtype=dtype).set_(storage, offset, size, stride)
            return view.clone(memory_format=torch.contiguous_format)
        except Exception as error:
            raise _unsound(self.path, "tensor", _brief(error)) from None


@dataclass(eq=False)
class StoredArray:
    """A numpy array of the file, not yet checked."""

    path: Path = field(repr=False)
    shape: Any = None
    dtype: Any = None
    is_fortran: Any = None
    raw: Any = field(default=None, repr=False)

    def __setstate__(self, state: Any) -> None:
        _, self.shape, self.dtype, self.is_fortran, self.raw = state

    def to_tensor(self) -> Tensor:
        """The array as a tensor: contiguous, native byte order, in memory of its own.

        Raises:
            UserError: naming the file whose description of the array is not sound.
        """
        try:
            shape, dtype, raw = _extents(self.shape), _resolve_dtype(self.dtype), _raw(self.raw)
            if math.prod(shape) * dtype.itemsize != len(raw):
                raise ValueError(f"{shape} of {dtype} in {len(raw)} bytes")
            array = np.ndarray(shape, dtype, raw, order="F" if self.is_fortran else "C")
            return torch.from_numpy(array.astype(dtype.newbyteorder("="), order="C"))
        except Exception as error:
            raise _unsound(self.path, "array", _brief(error)) from None


@dataclass
class PersistentModule(_Inert):
    """A network module as `torch_utils.persistence` stores it, without its source text."""

    class_name: str
    state: dict[str, Any]


class TensorFlowNetwork:
    """A `dnnlib.tflib.network.Network`; `state` is what its own `__setstate__` would be given."""

    state: dict[str, Any]

    def __new__(cls) -> TensorFlowNetwork:  # noqa: D102 - pickles do not call __init__
        network = super().__new__(cls)
        network.state = {}
        return network

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, dict):
            raise pickle.UnpicklingError("a Network whose state is no dict")
        self.state = state


class _Dict(dict[Any, Any]):
    """An `EasyDict` or `OrderedDict`; attributes that the file gives it are dropped."""

    __slots__ = ()

    def __init__(self) -> None:  # not from another dict: a file could copy a large one for ever
        super().__init__()

    def __setstate__(self, state: object) -> None:
        pass


class _Function(_Inert):
    """A function of this module in the hands of a pickle, which cannot set attributes on it."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)


class _Foreign:
    """Any global that is not on the list, and what it makes: takes everything, does nothing, so
    that reading goes on and all such globals are known.
    """

    __slots__ = ()

    def __new__(cls, *arguments: object, **named: object) -> _Foreign:
        return super().__new__(cls)

    def _ignore(self, *arguments: object) -> _Foreign:
        return self

    __call__ = __setstate__ = __setitem__ = append = extend = add = _ignore


class _DType:
    """The two parts of a `numpy.dtype` that matter here."""

    __slots__ = ("byte_order", "text")

    def __init__(self, text: object, *flags: object) -> None:
        self.text = text
        self.byte_order: object = "="

    def __setstate__(self, state: Any) -> None:
        self.byte_order = state[1]


class _Payload(_Inert):
    """The bytes that `torch.storage._load_from_bytes` would run; loaded once, then dropped."""

    __slots__ = ("_loaded", "_raw")

    def __init__(self, raw: object) -> None:
        self._raw = raw
        self._loaded: tuple[torch.UntypedStorage, torch.dtype] | None = None

    def load(self) -> tuple[torch.UntypedStorage, torch.dtype]:
        if self._loaded is None:
            raw = self._raw
            if not isinstance(raw, bytes) or raw.startswith(b"PK"):
                raise ValueError("not in the format of the official files")
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


class _Unpickler(pickle.Unpickler):
    """Gives the file stand-ins for globals; `foreign` collects those that are not on the list."""

    def __init__(self, path: Path, file: BinaryIO, size: int) -> None:
        super().__init__(file, encoding="latin1")
        self.foreign: set[str] = set()
        self._path = path
        self._copies_left = size  # an honest file has each object that it copies in it
        self._stand_ins = self._list_stand_ins()

    def find_class(self, module: str, name: str, /) -> Any:
        full_name = f"{module}.{name}"
        if full_name not in self._stand_ins:
            self.foreign.add(full_name)
        return self._stand_ins.get(full_name, _Foreign)

    def _list_stand_ins(self) -> dict[str, Any]:
        """The list, by the names that protocols 2 to 5 use."""
        functions: dict[str, Callable[..., Any]] = {
            "torch_utils.persistence._reconstruct_persistent_obj": _read_module,
            "torch.storage._load_from_bytes": _Payload,
            "torch._utils._rebuild_tensor": self._tensor,
            "torch._utils._rebuild_tensor_v2": self._tensor,
            "torch._utils._rebuild_parameter": _parameter,
            "torch._utils._rebuild_parameter_with_state": _parameter,
            "torch.Size": _extents,
            "collections.OrderedDict": self._ordered_dict,
            "numpy.dtype": _DType,
            "_codecs.encode": self._bytes,
        }
        for module in ("builtins", "__builtin__"):
            functions[f"{module}.set"] = self._set
            functions[f"{module}.frozenset"] = lambda items=(): frozenset(self._set(items))
            functions[f"{module}.bytes"] = functions[f"{module}.bytearray"] = self._bytes
        for module in ("numpy.core", "numpy._core"):
            functions[f"{module}.multiarray.scalar"] = _read_scalar
            functions[f"{module}.multiarray._reconstruct"] = lambda *_: StoredArray(self._path)
            functions[f"{module}.numeric._frombuffer"] = self._array
        classes = {
            "dnnlib.EasyDict": _Dict,
            "dnnlib.util.EasyDict": _Dict,
            "dnnlib.tflib.network.Network": TensorFlowNetwork,
            "numpy.ndarray": "numpy.ndarray",  # only ever an argument
        }
        return {name: _Function(function) for name, function in functions.items()} | classes

    def _charge(self, items: Sized) -> None:
        self._copies_left -= len(items)
        if self._copies_left < 0:
            raise pickle.UnpicklingError("it copies more than it holds")

    def _tensor(self, storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> StoredTensor:
        if not isinstance(storage, _Payload):
            raise pickle.UnpicklingError("a tensor without a storage")
        return StoredTensor(self._path, storage, offset, size, stride)

    def _array(self, raw: Any, dtype: Any, shape: Any, order: Any, *_: Any) -> StoredArray:
        return StoredArray(
            self._path, shape if order in ("C", "F") else None, dtype, order == "F", raw
        )

    def _bytes(self, content: str | bytes = b"", encoding: str = "latin1") -> bytes:
        if encoding not in ("latin1", "latin-1"):
            raise pickle.UnpicklingError("bytes of an unknown encoding")
        self._charge(content)
        return bytes(_raw(content))

    def _set(self, items: Any = ()) -> set[Any]:
        if not isinstance(items, list | tuple):
            raise pickle.UnpicklingError("a set of no list")
        self._charge(items)
        if not all(isinstance(item, str | bytes | int | float | None) for item in items):
            raise pickle.UnpicklingError("a set of other things than strings and numbers")
        return set(items)

    def _ordered_dict(self, items: Any = ()) -> _Dict:
        self._charge(items)
        ordered = _Dict()
        for key, value in items:
            if not isinstance(key, str):
                raise pickle.UnpicklingError("an OrderedDict whose keys are no strings")
            ordered[key] = value
        return ordered


def _read(path: Path, file: BinaryIO, size: int) -> Any:
    unpickler = _Unpickler(path, file, size)
    result = None
    try:
        scan_opcodes(file, size)
        file.seek(0)
        result = unpickler.load()
        check_tree(result, _parts)
    except OSError:
        raise
    except Exception as error:  # whatever a damaged stream may cause, MemoryError included
        if not unpickler.foreign:
            raise UserError(
                f"{path}: the pickle is truncated, damaged or none of an official network "
                f"({_brief(error)}); fetch the file again"
            ) from None
    if unpickler.foreign:
        names = sorted(ascii(name)[1:-1][:80] for name in unpickler.foreign)
        more = f" and {len(names) - 10} more" if len(names) > 10 else ""
        raise UserError(
            f"{path}: names {', '.join(names[:10])}{more}, for which a network's pickle has no use "
            "(nothing was executed); use the official file"
        )
    return result


def _parts(node: Any) -> Iterable[Any] | None:
    """What an object of the result holds; None for a leaf."""
    if isinstance(node, PersistentModule | TensorFlowNetwork):
        return (node.state,)
    if isinstance(node, dict):
        return node.values()
    return node if isinstance(node, list | tuple | set | frozenset) else None


def _read_module(meta: Any) -> PersistentModule:
    if not isinstance(meta["class_name"], str) or not isinstance(meta["state"], dict):
        raise pickle.UnpicklingError("a module without a class name or a state")
    return PersistentModule(meta["class_name"], meta["state"])


def _parameter(tensor: Any, *_: Any) -> StoredTensor:
    if not isinstance(tensor, StoredTensor):
        raise pickle.UnpicklingError("a parameter that is no tensor")
    return tensor


def _read_scalar(dtype: Any, raw: Any = b"") -> int | float | bool:
    resolved = _resolve_dtype(dtype)
    if len(raw) != resolved.itemsize:
        raise pickle.UnpicklingError("a number of another size than its type")
    number: int | float | bool = np.frombuffer(_raw(raw), resolved)[0].item()
    return number


def _resolve_dtype(dtype: Any) -> np.dtype[Any]:
    if not isinstance(dtype, _DType) or dtype.byte_order not in ("<", ">", "=", "|"):
        raise ValueError("no type, or no byte order")
    if not isinstance(dtype.text, str) or not NUMPY_DTYPE.fullmatch(dtype.text):
        raise ValueError("a type other than a number's")
    resolved = np.dtype(dtype.text)
    return resolved if dtype.byte_order in "=|" else resolved.newbyteorder(dtype.byte_order)


def _raw(content: Any) -> Any:
    """Bytes, which Python 2 and protocol 2 write as a latin-1 string."""
    if not isinstance(content, str | bytes | bytearray):
        raise ValueError("no bytes")
    return content.encode("latin1") if isinstance(content, str) else content


def _extents(numbers: Any) -> tuple[int, ...]:
    if not isinstance(numbers, list | tuple) or len(numbers) > MAX_DIMS:
        raise ValueError("no shape")
    if not all(type(number) is int and number >= 0 for number in numbers):
        raise ValueError("a shape of other things than counts")
    return tuple(numbers)


def _unsound(path: Path, kind: str, reason: str) -> UserError:
    return UserError(
        f"{path}: a {kind} is damaged or not of numbers ({reason}); use the official file"
    )


def _brief(error: object) -> str:
    """One printable line; the text of an error may hold what a file wants printed."""
    return ascii(str(error) or type(error).__name__)[1:-1][:120]

"""Reads the official StyleGAN2 pickles as plain data: the importer's way into files whose own
loader runs Python source found inside them.

A pickle is a program, so nothing that it names is ever looked up. Every global on a short list is
played by an inert stand-in of this module, any other is noted and refused. Before that, one pass
over the opcodes refuses files made to exhaust memory or time. Tensors and arrays stay descriptions
until `to_tensor` checks them, so that the caller pays only for those it wants.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from pipeline.teacher.importing.pickle_guard import check_tree, scan_opcodes
from pipeline.teacher.importing.stored_tensors import (
    Inert,
    StoredArray,
    StoredDType,
    StoredPayload,
    StoredTensor,
    brief,
    read_scalar,
    to_bytes,
    to_extents,
)
from shards.errors import UserError

MAX_FILE_BYTES = 16 * 2**30
PICKLE_HEADS = {bytes((0x80, protocol)) for protocol in (2, 3, 4, 5)}
TORCH_SAVE_HEAD = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46"  # of torch.save before it wrote zip files


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
        raise UserError(f"{path}: cannot be read ({brief(error)}); check the disk") from None


@dataclass
class PersistentModule(Inert):
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


class _Function(Inert):
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
            "torch.storage._load_from_bytes": StoredPayload,
            "torch._utils._rebuild_tensor": self._tensor,
            "torch._utils._rebuild_tensor_v2": self._tensor,
            "torch._utils._rebuild_parameter": _parameter,
            "torch._utils._rebuild_parameter_with_state": _parameter,
            "torch.Size": to_extents,
            "collections.OrderedDict": self._ordered_dict,
            "numpy.dtype": StoredDType,
            "_codecs.encode": self._bytes,
        }
        for module in ("builtins", "__builtin__"):
            functions[f"{module}.set"] = self._set
            functions[f"{module}.frozenset"] = lambda items=(): frozenset(self._set(items))
            functions[f"{module}.bytes"] = functions[f"{module}.bytearray"] = self._bytes
        for module in ("numpy.core", "numpy._core"):
            functions[f"{module}.multiarray.scalar"] = read_scalar
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
        if not isinstance(storage, StoredPayload):
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
        return bytes(to_bytes(content))

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
                f"({brief(error)}); fetch the file again"
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

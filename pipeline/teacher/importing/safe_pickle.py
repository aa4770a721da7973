"""Reads other people's pickles as plain data: the importer's way into files whose own loader runs
Python source found inside them.

A pickle is a program, so nothing that it names is ever looked up. Every global is played by an
inert stand-in (`stand_ins.py`) or refused by name. Before that, one pass over the opcodes refuses
files made to exhaust memory or time. Tensors and arrays stay descriptions until `to_tensor` checks
them, so that the caller pays only for those it wants. Neighbours: `source.py` reads whole pickles
with this, `torch_files.py` those within a torch file.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Sized
from pathlib import Path
from typing import Any, BinaryIO

import torch

from pipeline.teacher.importing.inert import Inert, brief, to_extents
from pipeline.teacher.importing.pickle_guard import check_tree, scan_opcodes
from pipeline.teacher.importing.stand_ins import (
    MAX_NAMES,
    Foreign,
    StoredDict,
    StoredModule,
    TensorFlowNetwork,
    is_function,
    is_refused,
    stored_class,
)
from pipeline.teacher.importing.storages import STORAGE_DTYPES, Storage, StorageType, StoredPayload
from pipeline.teacher.importing.stored_arrays import StoredArray, StoredDType, read_scalar, to_bytes
from pipeline.teacher.importing.stored_tensors import StoredTensor
from shards.errors import UserError

FindStorage = Callable[[Any], Any]
"""What a persistent id of the file stands for: a `Storage`, mostly."""


def load_pickle(path: Path, file: BinaryIO, size: int, find: FindStorage | None = None) -> Any:
    """The pickle, protocol 2 to 5, that starts where `file` is; nothing is executed, and `file` is
    left at its end.

    Containers, strings and numbers are Python's own (numpy scalars and `EasyDict` included); what
    else there may be is a `StoredTensor`, `StoredArray`, `StoredModule`, a class of those,
    `TensorFlowNetwork` or `torch.dtype`. The result can be walked by recursion, but for modules
    that refer to each other in a circle.

    Args:
        path: of the file, for messages.
        file: seekable.
        size: of the whole file in bytes: a bound of what an honest pickle can hold.
        find: for torch files; other pickles have no persistent ids.

    Raises:
        UserError: naming the file and what is wrong with it, for anything else than such a pickle.
    """
    unpickler = _Unpickler(path, file, size, find)
    result = None
    start = file.tell()
    try:
        scan_opcodes(file, size, may_be_persistent=find is not None)
        end = file.tell()
        file.seek(start)
        result = unpickler.load()
        file.seek(end)
        check_tree(result, _PartsOnce())
    except OSError:
        raise
    except Exception as error:  # whatever a damaged stream may cause, MemoryError included
        if not unpickler.refused():
            raise UserError(
                f"{path}: the pickle is truncated, damaged or not of networks "
                f"({brief(error)}); fetch the file again"
            ) from None
    if refused := unpickler.refused():
        names = sorted(ascii(name)[1:-1][:80] for name in refused)
        more = f" and {len(names) - 10} more" if len(names) > 10 else ""
        raise UserError(
            f"{path}: names {', '.join(names[:10])}{more}, which weights do not need "
            "(nothing was executed); fetch the file again from its authors"
        )
    return result


STORAGE_CLASSES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


class _Function(Inert):
    """A function of this module in the hands of a pickle, which cannot set attributes on it."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)


class _Unpickler(pickle.Unpickler):
    """Gives the file stand-ins for globals, and knows which were refused."""

    def __init__(self, path: Path, file: BinaryIO, size: int, find: FindStorage | None) -> None:
        super().__init__(file, encoding="latin1")
        self._path = path
        self._find = find
        self._copies_left = size  # an honest file has each object that it copies in it
        self._stand_ins = self._list_stand_ins()
        self._foreign: set[str] = set()
        self._called: set[str] = set()
        self._num_names = 0

    def find_class(self, module: str, name: str, /) -> Any:
        path = f"{module}.{name}"
        if path not in self._stand_ins:
            if is_refused(path):
                self._foreign.add(path)
                return Foreign
            if self._num_names == MAX_NAMES:
                raise pickle.UnpicklingError(f"more than {MAX_NAMES} classes")
            self._num_names += 1
            self._stand_ins[path] = stored_class(path, self._called)
        return self._stand_ins[path]

    def persistent_load(self, pid: Any) -> Any:
        if self._find is None:
            raise pickle.UnpicklingError("a persistent id outside of a torch file")
        return self._find(pid)

    def refused(self) -> set[str]:
        """Names of refused globals, and of functions that the file calls."""
        return self._foreign | {path for path in self._called if is_function(path)}

    def _list_stand_ins(self) -> dict[str, Any]:
        """The list, by the names that protocols 2 to 5 use."""
        functions: dict[str, Callable[..., Any]] = {
            "torch_utils.persistence._reconstruct_persistent_obj": _read_module,
            "torch.storage._load_from_bytes": StoredPayload,
            "torch._utils._rebuild_tensor": self._tensor,
            "torch._utils._rebuild_tensor_v2": self._tensor,
            "torch._utils._rebuild_parameter": _parameter,
            "torch._utils._rebuild_parameter_with_state": _parameter,
            "torch._tensor._rebuild_from_type_v2": _with_attributes,
            "torch.Size": to_extents,
            "dill._dill._create_array": _create_array,
            "dill._dill._load_type": self._load_type,
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
        classes: dict[str, Any] = {
            "dnnlib.EasyDict": StoredDict,
            "dnnlib.util.EasyDict": StoredDict,
            "dnnlib.tflib.network.Network": TensorFlowNetwork,
            "numpy.ndarray": "numpy.ndarray",  # only ever an argument
        }
        for dtype in STORAGE_DTYPES:
            classes[str(dtype)] = dtype
        for name, dtype in STORAGE_CLASSES.items():
            classes[f"torch.{name}"] = classes[f"torch.cuda.{name}"] = StorageType(dtype)
        return {name: _Function(function) for name, function in functions.items()} | classes

    def _charge(self, items: Sized) -> None:
        self._copies_left -= len(items)
        if self._copies_left < 0:
            raise pickle.UnpicklingError("it copies more than it holds")

    def _tensor(self, storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> StoredTensor:
        if not isinstance(storage, Storage):
            raise pickle.UnpicklingError("a tensor without a storage")
        return StoredTensor(self._path, storage, offset, size, stride)

    def _array(self, raw: Any, dtype: Any, shape: Any, order: Any, *_: Any) -> StoredArray:
        return StoredArray(
            self._path, shape if order in ("C", "F") else None, dtype, order == "F", raw
        )

    def _load_type(self, name: Any) -> Any:
        """How dill names a type of Python's own, such as that of bound methods."""
        if not isinstance(name, str):
            raise pickle.UnpicklingError("a type without a name")
        return self.find_class("dill.types", name)

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

    def _ordered_dict(self, items: Any = ()) -> StoredDict:
        self._charge(items)
        ordered = StoredDict()
        for key, value in items:
            if not isinstance(key, str):
                raise pickle.UnpicklingError("an OrderedDict whose keys are no strings")
            ordered[key] = value
        return ordered


class _PartsOnce:
    """What an object of the result holds; None for a leaf, and for a module that was there before:
    those of one network may refer to each other.
    """

    def __init__(self) -> None:
        self._seen: set[int] = set()

    def __call__(self, node: Any) -> Iterable[Any] | None:
        if isinstance(node, StoredModule):
            if id(node) in self._seen:
                return None
            self._seen.add(id(node))
            return (node.state,)
        if isinstance(node, TensorFlowNetwork):
            return (node.state,)
        if isinstance(node, dict):
            return node.values()
        return node if isinstance(node, list | tuple | set | frozenset) else None


def _read_module(meta: Any) -> StoredModule:
    if not isinstance(meta["class_name"], str) or not isinstance(meta["state"], dict):
        raise pickle.UnpicklingError("a module without a class name or a state")
    return StoredModule(meta["class_name"], meta["state"])


def _with_attributes(function: Any, _: Any, arguments: Any, *__: Any) -> StoredTensor:
    """A tensor that somebody gave attributes, which are dropped."""
    tensor = function(*arguments) if isinstance(function, _Function) else None
    return _parameter(tensor)


def _create_array(function: Any, arguments: Any, state: Any, *_: Any) -> StoredArray:
    """How dill writes an array."""
    array = function(*arguments) if isinstance(function, _Function) else None
    if not isinstance(array, StoredArray):
        raise pickle.UnpicklingError("an array made by something else")
    array.__setstate__(state)
    return array


def _parameter(tensor: Any, *_: Any) -> StoredTensor:
    if not isinstance(tensor, StoredTensor):
        raise pickle.UnpicklingError("a parameter that is no tensor")
    return tensor

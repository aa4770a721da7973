"""What plays the globals that other people's pickles name: holds what it is given, does nothing.

Classes of packages – networks, hooks, namespaces – become `StoredModule`. Of the standard library
only data is played; its other names, and functions that a file calls, are refused by name.
Neighbour: `safe_pickle.py` reads with these.
"""

from __future__ import annotations

import pickle
import sys
from typing import Any

MAX_NAMES = 1000
STANDARD_MODULES = {"datetime", "decimal", "enum", "fractions", "pathlib", "typing", "uuid"}
STANDARD_DATA = {
    *("argparse.Namespace", "types.SimpleNamespace", "functools.partial"),
    *("collections.defaultdict", "collections.Counter", "collections.deque"),
    *(f"datetime.{kind}" for kind in ("date", "datetime", "time", "timedelta")),
    *(
        f"{module}.{kind}"
        for module in ("builtins", "__builtin__")
        for kind in ("dict", "list", "tuple", "int", "float", "str", "bool", "complex", "slice",
                     "object", "range")
    ),
}  # fmt: skip
"""Of the standard library: modules and classes of what files keep beside the weights."""
PYTHON_2 = {"__builtin__", "copy_reg"}


class StoredModule:
    """An object of a class that the file names: a network, one of its modules, a namespace.

    `class_path` is the full name of the class (of a persistent module only its own name), `state`
    what the class would be given to restore the object: for most their attributes, for torch
    modules `_parameters`, `_buffers`, `_modules` and attributes. The class itself is never looked
    up, and source text never kept.
    """

    __slots__ = ("class_path", "state")

    class_path: str
    state: dict[Any, Any]

    def __init__(self, class_path: str, state: dict[Any, Any]) -> None:
        self.class_path = class_path
        self.state = state

    def __repr__(self) -> str:
        return f"StoredModule({self.class_path!r})"

    @property
    def class_name(self) -> str:
        """The last part of `class_path`."""
        return self.class_path.rpartition(".")[2]

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, tuple) and len(state) == 2:  # (attributes, those in slots)
            state = state[0] or state[1]
        self.state = state if isinstance(state, dict) else {}

    def __setitem__(self, key: Any, value: Any) -> None:
        self.state[key] = value

    def _ignore(self, *_: object) -> None:
        pass

    append = extend = add = _ignore


def stored_class(path: str, called: set[str]) -> type[StoredModule]:
    """A class for the global `path`, whose objects are `StoredModule`s; `called` gets `path` if the
    file calls it, as it would a function.
    """

    def new(cls: type[StoredModule], *_: object, **__: object) -> StoredModule:
        made: StoredModule = object.__new__(cls)
        made.state = {}
        return made

    def note(_: StoredModule, *__: object, **___: object) -> None:
        called.add(path)

    members = {"__slots__": (), "class_path": path, "__new__": new, "__init__": note}
    return type("StoredClass", (StoredModule,), members)


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


class StoredDict(dict[Any, Any]):
    """An `EasyDict` or `OrderedDict`; attributes that the file gives it are dropped."""

    __slots__ = ()

    def __init__(self) -> None:  # not from another dict: a file could copy a large one for ever
        super().__init__()

    def __setstate__(self, state: object) -> None:
        pass


class Foreign:
    """A refused global, and what it makes: takes everything, does nothing, so that reading goes on
    and all such globals are known.
    """

    __slots__ = ()

    def __new__(cls, *_: object, **__: object) -> Foreign:  # noqa: D102
        return super().__new__(cls)

    def _ignore(self, *arguments: object) -> Foreign:
        return self

    __call__ = __setstate__ = __setitem__ = append = extend = add = _ignore


def is_refused(path: str) -> bool:
    """Whether the global `path` is one of the standard library that holds no data."""
    top = path.partition(".")[0]
    is_standard = top in sys.stdlib_module_names or top in PYTHON_2
    return is_standard and top not in STANDARD_MODULES and path not in STANDARD_DATA


def is_function(path: str) -> bool:
    """Whether `path` is spelled like a function: one that is called makes no data."""
    name = path.rpartition(".")[2].lstrip("_")
    return name[:1].islower() and path not in STANDARD_DATA and path != "torch.device"

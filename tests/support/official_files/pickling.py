"""What the official files refer to, and the pickler that writes them.

`torch_utils` and `dnnlib` exist only while a file is written, and the source it embeds raises.
"""

from __future__ import annotations

import io
import pickle
import sys
import types
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, NoReturn

from torch import Tensor, nn

from tests.support.official_files.specification import State

POISON = "raise RuntimeError('embedded source was executed')\n"


@dataclass
class Module:
    """One wrapped module of the official implementation, as its pickle sees it."""

    class_name: str
    parameters: dict[str, Tensor] = field(default_factory=dict)
    buffers: dict[str, Tensor] = field(default_factory=dict)
    modules: dict[str, Module] = field(default_factory=dict)
    attributes: dict[str, Any] = field(default_factory=dict)
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)

    def state_dict(self, prefix: str = "") -> State:
        found = {
            prefix + name: tensor.clone()
            for name, tensor in (self.parameters | self.buffers).items()
        }
        for name, module in self.modules.items():
            found |= module.state_dict(f"{prefix}{name}.")
        return found

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[dict[str, Any]]]:
        hooks = ("backward", "forward", "forward_pre", "state_dict", "load_state_dict_pre")
        state = {
            "training": False,
            "_parameters": OrderedDict(
                (name, nn.Parameter(tensor, requires_grad=False))
                for name, tensor in self.parameters.items()
            ),
            "_buffers": OrderedDict(self.buffers),
            "_non_persistent_buffers_set": set(),
            **{f"_{name}_hooks": OrderedDict() for name in hooks},
            "_is_full_backward_hook": None,
            "_modules": OrderedDict(self.modules),
            **self.attributes,
            "_init_args": self.args,
            "_init_kwargs": self.kwargs,
        }
        meta = {
            "type": "class",
            "version": 6,
            "module_src": POISON,
            "class_name": self.class_name,
            "state": state,
        }
        return _reconstruct_persistent_obj, (meta,)


def _reconstruct_persistent_obj(meta: dict[str, Any]) -> NoReturn:
    raise RuntimeError("a wrapped module was rebuilt the official way")


_reconstruct_persistent_obj.__module__ = "torch_utils.persistence"


class EasyDict(dict[str, Any]):
    """Stands in for `dnnlib.util.EasyDict`."""

    __module__ = "dnnlib.util"


class Network:
    """Stands in for `dnnlib.tflib.network.Network`: its state is all a file holds."""

    __module__ = "dnnlib.tflib.network"

    def __init__(self, **state: Any) -> None:
        self.__dict__ |= state


REFERRED: dict[str, dict[str, Any]] = {
    "torch_utils": {},
    "torch_utils.persistence": {"_reconstruct_persistent_obj": _reconstruct_persistent_obj},
    "dnnlib": {},
    "dnnlib.util": {"EasyDict": EasyDict},
    "dnnlib.tflib": {},
    "dnnlib.tflib.network": {"Network": Network},
}


@contextmanager
def official_modules() -> Iterator[None]:
    """The modules a file refers to, importable until the block ends."""
    assert not REFERRED.keys() & sys.modules.keys()
    try:
        for name, contents in REFERRED.items():
            sys.modules[name] = types.ModuleType(name)
            sys.modules[name].__dict__.update(contents)
        yield
    finally:
        for name in REFERRED:
            sys.modules.pop(name, None)


_PurePickler: Any = vars(pickle)["_Pickler"]  # the one whose methods a subclass can replace


class _Pickler(_PurePickler):
    """Refers to numpy's internals by their names before numpy 2, as the official files do."""

    dispatch: ClassVar[dict[type, Callable[..., None]]] = dict(_PurePickler.dispatch)

    def save_global(self, obj: Any, name: str | None = None) -> None:
        module = getattr(obj, "__module__", None) or ""
        if not module.startswith("numpy._core"):
            super().save_global(obj, name)
            return
        old, name = module.replace("numpy._core", "numpy.core"), obj.__qualname__
        if self.proto >= 4:
            self.save(old)
            self.save(name)
            self.write(pickle.STACK_GLOBAL)
        else:
            self.write(pickle.GLOBAL + f"{old}\n{name}\n".encode())
        self.memoize(obj)

    dispatch[types.FunctionType] = save_global


def write_pickle(path: Path, content: Any, protocol: int, is_numpy_2: bool) -> None:
    file = io.BytesIO()
    with official_modules():
        (pickle.Pickler if is_numpy_2 else _Pickler)(file, protocol).dump(content)
    path.write_bytes(file.getvalue())

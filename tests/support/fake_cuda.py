"""A pretended GPU: tensors that say they are on one while their values are on the CPU, and a count
of what would keep the host waiting for it.

Inside `fake_cuda()` everything made on, or sent to, the device "cuda" is an `OnFakeCuda`; whatever
is computed with it is, too, values and gradients included. Operators that mix it with the CPU's
tensors raise, as on a GPU. Waits are:

- reading a value: `item`, `float`, `bool`, `tolist`, comparisons of whole tensors;
- shapes that depend on values: `nonzero`, boolean masks, `unique`, …;
- copies to the GPU from memory that is not page-locked, or that were not asked to be non-blocking,
  among them `torch.tensor(…, device="cuda")` and indices on the CPU;
- copies from the GPU that were not asked to be non-blocking;
- `torch.cuda.synchronize`, and an event's, unless the device was given more to do in the meantime.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._mode_utils import no_dispatch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

FAKE_CUDA = torch.device("cuda", 0)
_MEMORY_BYTES = 80 << 30

_READS = {"_local_scalar_dense", "equal", "is_nonzero"}
_SHAPES = {"nonzero", "masked_select", "bincount", "_unique2", "unique_dim", "unique_consecutive"}
_COPIES = {"_to_copy", "copy_"}
_INDEXING = {"index", "index_put_", "index_put", "_index_put_impl_"}


class OnFakeCuda(Tensor):
    """One tensor; `value` is what it holds."""

    value: Tensor

    @staticmethod
    def __new__(cls, value: Tensor) -> OnFakeCuda:
        # torch's own code sees the device "meta", for which it does without a driver
        tensor: OnFakeCuda = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            value.size(),
            strides=value.stride(),
            storage_offset=value.storage_offset(),
            dtype=value.dtype,
            device="meta",
        )
        tensor.value = value
        return tensor

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return FAKE_CUDA

    @property
    def is_cuda(self) -> bool:  # type: ignore[override]
        return True

    def tolist(self) -> Any:
        return self.to("cpu").tolist()

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise RuntimeError("a tensor of fake_cuda() was used outside")


class FakeCuda(TorchDispatchMode):
    """What happens inside; `waits` has a line for each."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[str] = []
        self.num_launched = 0
        self._pinned: dict[int, Tensor] = {}  # kept alive, so that no other memory takes its place

    def wait(self, reason: str) -> None:
        """Note one, and where the project's code caused it."""
        frames = [f for f in traceback.extract_stack() if "site-packages" not in f.filename]
        place = next(f for f in reversed(frames) if f.filename != __file__)
        self.waits.append(f"{reason} at {place.filename}:{place.lineno}")

    def pin(self, tensor: Tensor) -> Tensor:
        """In place of `Tensor.pin_memory`."""
        copy = tensor.clone()
        self._pinned[copy.untyped_storage().data_ptr()] = copy
        return copy

    def is_pinned(self, tensor: Tensor) -> bool:
        """Whether the CPU's `tensor` lies in page-locked memory."""
        return tensor.untyped_storage().data_ptr() in self._pinned

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        leaves = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        on_fake = [x for x in leaves if isinstance(x, OnFakeCuda)]
        asked = kwargs.get("device")
        if not on_fake and (asked is None or torch.device(asked).type == "cpu"):
            with no_dispatch():
                return func(*args, **kwargs)
        is_result_on_fake = asked is None or torch.device(asked).type != "cpu"
        self._look_for_waits(func, name, args, kwargs, leaves, is_result_on_fake)
        values = {id(x.value): x for x in on_fake}
        plain, settings = tree_map(_value, args), tree_map(_value, kwargs)
        if asked is not None:
            settings["device"] = torch.device("cpu")
        with no_dispatch():
            found = func(*plain, **settings)
        if name == "copy_" and not isinstance(args[0], OnFakeCuda):
            return args[0]
        if not is_result_on_fake:
            return found

        def wrap(x: Any) -> Any:
            if not isinstance(x, Tensor):
                return x
            return values[id(x)] if id(x) in values else OnFakeCuda(x)  # in place, or new

        return tree_map(wrap, found)

    def _look_for_waits(
        self, func: Any, name: str, args: Any, kwargs: Any, leaves: list[Tensor], to_fake: bool
    ) -> None:
        self.num_launched += name not in _COPIES
        on_cpu = [x for x in leaves if not isinstance(x, OnFakeCuda)]
        is_blocking = not _argument(func, args, kwargs, "non_blocking")
        if name in _READS or name in _SHAPES or str(func) == "aten.repeat_interleave.Tensor":
            self.wait(name)
        elif name in _INDEXING and any(_is_mask(x) for x in tree_leaves(args[1])):
            self.wait("boolean mask")
        elif name in _COPIES:
            source = args[1] if name == "copy_" else args[0]
            to_fake = isinstance(args[0], OnFakeCuda) if name == "copy_" else to_fake
            is_from_fake = isinstance(source, OnFakeCuda)
            if is_from_fake and not to_fake and is_blocking:
                self.wait("blocking copy to the host")
            if not is_from_fake and to_fake and (is_blocking or not self.is_pinned(source)):
                kind = "blocking" if is_blocking else "unpinned"
                self.wait(f"{kind} copy to the device")
        elif name in _INDEXING and on_cpu:
            self.wait("index on the host")
        elif any(x.dim() for x in on_cpu) and not name.endswith("_like"):  # that reads no values
            raise RuntimeError(f"{func}: tensors on the CPU and on the GPU")


class _Event:
    """In place of `torch.cuda.Event`."""

    def __init__(self, mode: FakeCuda) -> None:
        self._mode = mode

    def record(self) -> None:
        self._num_launched = self._mode.num_launched

    def synchronize(self) -> None:
        if self._mode.num_launched == self._num_launched:
            self._mode.wait("event with nothing given out after it")


@contextmanager
def fake_cuda() -> Iterator[FakeCuda]:
    """Inside, the device "cuda" is pretended; yields what counts the waits."""
    mode, generator, empty = FakeCuda(), torch.Generator, torch.empty

    def make_generator(device: torch.device | str = "cpu") -> torch.Generator:
        return generator("cpu")  # its numbers are the CPU's

    def make_empty(*size: Any, pin_memory: bool = False, **settings: Any) -> Tensor:
        return mode.pin(empty(*size, **settings)) if pin_memory else empty(*size, **settings)

    patches: dict[tuple[Any, str], Callable[..., Any]] = {
        (torch, "Generator"): make_generator,
        (torch, "empty"): make_empty,
        (torch.cuda, "Event"): lambda: _Event(mode),
        (torch.cuda, "mem_get_info"): lambda *_: (_MEMORY_BYTES, _MEMORY_BYTES),
        (torch.cuda, "synchronize"): lambda *_: mode.wait("synchronize"),
        (Tensor, "pin_memory"): lambda tensor: mode.pin(tensor),
        (Tensor, "is_pinned"): lambda tensor: mode.is_pinned(tensor),
    }
    undo = [mock.patch.object(owner, name, new) for (owner, name), new in patches.items()]
    # beneath, because it keeps torch from starting the driver; it gets nothing to do
    with FakeTensorMode(allow_non_fake_inputs=True), mode:
        for patch in undo:
            patch.start()
        try:
            yield mode
        finally:
            for patch in undo:
                patch.stop()


def _is_mask(x: Any) -> bool:
    return isinstance(x, Tensor) and x.dtype in (torch.bool, torch.uint8)


def _value(x: Any) -> Any:
    return x.value if isinstance(x, OnFakeCuda) else x


def _argument(func: Any, args: Any, kwargs: Any, name: str) -> Any:
    """What an operator gets as its argument `name`, however it is given."""
    names = [argument.name for argument in func._schema.arguments]
    if name in kwargs or name not in names:
        return kwargs.get(name)
    index = names.index(name)
    return args[index] if index < len(args) else None

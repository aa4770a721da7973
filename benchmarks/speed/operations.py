"""The work of a computation: its operations, and the fewest bytes that it has to move.

*Operations* are those of convolutions and matrix products, two per multiply-add, by torch's own
formulas (`torch.utils.flop_counter`), forward and backward, each for the arithmetic that it is done
in.

*Bytes* are counted at the same places: every convolution and matrix product reads each of its
operands once and writes its result once, and in a backward pass each product of a gradient likewise
(torch's `convolution_backward`, which makes two gradients, reads what they share once). What lies
between two products – normalisation, activation, sums, loss – is taken to be fused into them and to
move nothing, and so is what comes before the first and after the last. An optimiser reads and
writes parameters and their state, and reads gradients, once per step. A map that is seen through an
expanded view counts as often as it is in memory, an operand that is there twice once.

Both are least values for the given convolutions and products, so the time that they take at the
device's rates is a floor: no fusion and no compiler goes below it, only another algorithm (such as
Winograd's, which needs fewer operations) or data that stay in a cache (which needs fewer bytes).

`ceilings.py` measures the device's rates, `roofline.py` sets both beside the time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer, register_optimizer_step_post_hook
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from benchmarks.measure import uses_tf32


@dataclass(frozen=True)
class WorkCount:
    """Operations and bytes of a computation."""

    operations: Mapping[str, float] = field(default_factory=dict)
    """By arithmetic: "float32", "TF32", "bfloat16", … two per multiply-add."""
    num_bytes: float = 0
    """See the module."""

    @property
    def total(self) -> float:
        """Operations in whatever arithmetic."""
        return sum(self.operations.values())

    def __add__(self, other: WorkCount) -> WorkCount:
        operations = dict(self.operations)
        for arithmetic, count in other.operations.items():
            operations[arithmetic] = operations.get(arithmetic, 0.0) + count
        return WorkCount(operations, self.num_bytes + other.num_bytes)


def count_work(task: Callable[[], object]) -> WorkCount:
    """The work of one call, optimisers' steps included.

    Functions that torch compiled run as they were written here, since torch leaves its compiler out
    where operators are watched.
    """
    counter = _WorkCounter()
    hook = register_optimizer_step_post_hook(counter.add_update)
    try:
        with counter:
            task()
    finally:
        hook.remove()
    return counter.work


class _WorkCounter(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.work = WorkCount()

    def add_update(self, optimizer: Optimizer, *_: Any) -> None:
        """Parameters and their state are read and written, gradients read."""
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    state = optimizer.state[parameter].values()
                    moved = [parameter, *(part for part in state if isinstance(part, Tensor))]
                    num_bytes = 2 * memory_bytes(moved) + memory_bytes([parameter.grad])
                    self.work += WorkCount(num_bytes=num_bytes)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        formula = flop_registry.get(func._overloadpacket)
        if formula is None:
            with self:  # in inference mode linear layers and the like come whole
                result = func.decompose(*args, **kwargs)
            return func(*args, **kwargs) if result is NotImplemented else result
        result = func(*args, **kwargs)
        operations = formula(*args, **kwargs, out_val=result)
        tensors = [leaf for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, Tensor)]
        name = _arithmetic(tensors, "conv" in func.__name__)
        self.work += WorkCount({name: operations}, memory_bytes(tensors))
        return result


def memory_bytes(tensors: list[Tensor]) -> int:
    """Bytes of the distinct memory that `tensors` are."""
    sizes: dict[int, int] = {}
    for tensor in tensors:
        elements = 1
        for size, stride in zip(tensor.shape, tensor.stride(), strict=True):
            elements *= size if stride else 1
        address = tensor.data_ptr()
        sizes[address] = max(sizes.get(address, 0), elements * tensor.element_size())
    return sum(sizes.values())


def _arithmetic(tensors: list[Tensor], is_convolution: bool) -> str:
    """Name of the arithmetic of a convolution or product of `tensors`."""
    first = next(tensor for tensor in tensors if tensor.is_floating_point())
    if first.device.type == "cuda" and first.dtype == torch.float32:
        products = torch.backends.cuda.matmul.fp32_precision
        if uses_tf32() if is_convolution else products == "tf32":
            return "TF32"
    return str(first.dtype).removeprefix("torch.")

"""What would reach a GPU: copies from the CPU, seen on fake CUDA tensors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


@dataclass(frozen=True)
class Copy:
    """One copy between devices."""

    source: str
    target: str
    waits: bool


class Copies(TorchDispatchMode):
    """Notes the copies to and from a GPU that are made within the block."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[Copy] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor) and not func.is_view:
            for value in args:
                if isinstance(value, Tensor) and value.dim():
                    ends = value.device.type, result.device.type
                    if "cuda" in ends and ends[0] != ends[1]:
                        waits = not (kwargs or {}).get("non_blocking", False)
                        self.found.append(Copy(*ends, waits))
        return result

"""Networks of names and shapes alone, which are filled from a file: on torch's meta device.

Random numbers and divisions have meta kernels in Python, which import all that torch.compile has:
two seconds of every process that reads a teacher, a renderer's among them. Here they are left out.
Neighbour: `checkpoint.py` fills the networks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

_DRAW = (torch.randn, torch.rand)
_KEEP_SHAPE = (Tensor.div, nn.init.normal_)
"""By which weights are scaled, and those of embeddings drawn."""


@contextmanager
def unfilled() -> Iterator[None]:
    """Within the block, networks are built without memory for their weights, and none is drawn."""
    with torch.device("meta"), _Undrawn():
        yield


class _Undrawn(TorchFunctionMode):
    """What is drawn, or scaled by a number, has a shape and no values."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func in _KEEP_SHAPE:
            return args[0] if args else kwargs["tensor"]
        return (torch.empty if func in _DRAW else func)(*args, **kwargs)

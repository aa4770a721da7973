"""What a device can do at most, measured: large copies and large matrix products; and the floor
that they put under a computation.

A ceiling is the rate of the fastest turn, not of the median one, since it is what nothing exceeds;
on a machine that others use too, `highest` of several measurements comes closer to it.
`operations.py` says what is counted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch

from benchmarks.measure import interleave, time_turns
from benchmarks.speed.operations import Work
from pipeline.samples.seeding import torch_generator

Route = Literal["device", "host", "upload"]
"""Within the device's memory (bytes read and written), within the host's, and from host to GPU."""

_SIDE = {"cpu": 2048, "cuda": 8192}  # of a product: the GPU's units are full
_COPY_BYTES = {"cpu": 2**28, "cuda": 2**30}  # far above any cache


@dataclass(frozen=True)
class Floor:
    """The least time of a computation: that of its operations, and that of its bytes."""

    arithmetic_s: float
    memory_s: float

    @property
    def seconds(self) -> float:
        """Of the two, which can overlap, the longer."""
        return max(self.arithmetic_s, self.memory_s)

    @property
    def binds(self) -> str:
        """Which of the two that is."""
        return "arithmetic" if self.arithmetic_s > self.memory_s else "memory"


@dataclass(frozen=True)
class Ceilings:
    """Rates that nothing on the device exceeds."""

    products: Mapping[str, float]
    """Operations/s of a large matrix product, two per multiply-add, by arithmetic."""
    copies: Mapping[Route, float]
    """Bytes/s; read and written ones within a memory, each once on the way to the GPU."""

    def floor(self, work: Work, route: Route = "device") -> Floor:
        """The least time of `work` whose bytes take `route`.

        Raises:
            KeyError: for arithmetic or a route that was not measured.
        """
        arithmetic_s = sum(
            count / self.products[arithmetic] for arithmetic, count in work.operations.items()
        )
        return Floor(arithmetic_s, work.num_bytes / self.copies[route])


def measure_ceilings(repeats: int, device: torch.device) -> Ceilings:
    """Measure all that `device` has: float32 products and copies, on a GPU also TF32 and bfloat16,
    and copies from pinned memory.
    """
    side, num_bytes = _SIDE[device.type], _COPY_BYTES[device.type]
    is_cuda = device.type == "cuda"
    products: dict[str, Callable[[], object]] = {
        name: _product(side, device, name)
        for name in (("float32", "TF32", "bfloat16") if is_cuda else ("float32",))
    }
    copies: dict[Route, Callable[[], object]] = {"device": _copy(num_bytes, device)}
    if is_cuda:
        copies["host"] = _copy(_COPY_BYTES["cpu"], torch.device("cpu"))
        copies["upload"] = _upload(num_bytes, device)
    turns = time_turns({**products, **dict(copies.items())}, repeats, device)
    seconds = {name: min(values) for name, values in turns.items()}
    rates: dict[Route, float] = {"device": 2 * num_bytes / seconds["device"]}
    if is_cuda:
        rates["host"] = 2 * _COPY_BYTES["cpu"] / seconds["host"]
        rates["upload"] = num_bytes / seconds["upload"]
    else:
        rates["host"] = rates["device"]
    return Ceilings({name: 2 * side**3 / seconds[name] for name in products}, rates)


def highest(first: Ceilings, second: Ceilings) -> Ceilings:
    """The higher rate of each kind, of two measurements of the same device."""
    return Ceilings(
        {name: max(rate, second.products[name]) for name, rate in first.products.items()},
        {route: max(rate, second.copies[route]) for route, rate in first.copies.items()},
    )


def measure_matrix_product(repeats: int, device: torch.device) -> float:
    """Operations/s of a float32 matrix product of 2048: what the arithmetic could reach."""
    seconds = interleave({"product": _product(2048, device, "float32")}, repeats, device)
    return 2 * 2048**3 / seconds["product"]


def _product(side: int, device: torch.device, arithmetic: str) -> Callable[[], object]:
    dtype = torch.bfloat16 if arithmetic == "bfloat16" else torch.float32
    # Not zeros: a GPU multiplies those faster, as it draws less power.
    a = torch.randn(side, side, generator=torch_generator(0, "benchmark/product"))
    a = a.to(device, dtype)
    backend: Any = torch.backends.cuda.matmul

    def multiply() -> None:
        before = backend.fp32_precision
        backend.fp32_precision = "tf32" if arithmetic == "TF32" else "ieee"
        try:
            a @ a
        finally:
            backend.fp32_precision = before

    return multiply


def _copy(num_bytes: int, device: torch.device) -> Callable[[], object]:
    source = torch.ones(num_bytes // 4, device=device)  # the system maps zeros to one page
    target = torch.empty_like(source)
    return lambda: target.copy_(source)


def _upload(num_bytes: int, device: torch.device) -> Callable[[], object]:
    source = torch.ones(num_bytes // 4, pin_memory=True)
    target = torch.empty(source.shape, device=device)
    return lambda: target.copy_(source, non_blocking=True)

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

from benchmarks.measure import interleave
from benchmarks.speed.operations import WorkCount
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

    def floor(self, work: WorkCount, route: Route = "device") -> Floor:
        """The least time of `work` whose bytes take `route`.

        Raises:
            KeyError: for arithmetic or a route that was not measured.
        """
        times = (count / self.products[name] for name, count in work.operations.items())
        return Floor(sum(times), work.num_bytes / self.copies[route])


def measure_ceilings(repeats: int, device: torch.device) -> Ceilings:
    """Measure all that `device` has: float32 products and copies, on a GPU also TF32 and bfloat16,
    and copies from pinned memory.
    """
    side, is_cuda = _SIDE[device.type], device.type == "cuda"
    arithmetics = ("float32", "TF32", "bfloat16") if is_cuda else ("float32",)
    routes: tuple[Route, ...] = ("device", "host", "upload") if is_cuda else ("device",)
    moved = {route: _COPY_BYTES["cpu" if route == "host" else device.type] for route in routes}
    tasks: dict[str, Callable[[], object]] = {
        **{name: _product(side, device, name) for name in arithmetics},
        **{route: _copy(route, moved[route], device) for route in routes},
    }
    seconds = interleave(tasks, repeats, device, choose=min)
    copies: dict[Route, float] = {
        route: (1 if route == "upload" else 2) * moved[route] / seconds[route] for route in routes
    }
    copies.setdefault("host", copies["device"])
    return Ceilings({name: 2 * side**3 / seconds[name] for name in arithmetics}, copies)


def highest(first: Ceilings, second: Ceilings) -> Ceilings:
    """The higher rate of each kind, of two measurements of the same device."""
    return Ceilings(
        {name: max(rate, second.products[name]) for name, rate in first.products.items()},
        {route: max(rate, second.copies[route]) for route, rate in first.copies.items()},
    )


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


def _copy(route: Route, num_bytes: int, device: torch.device) -> Callable[[], object]:
    where = device if route == "device" else torch.device("cpu")
    # the system maps zeros to one page
    source = torch.ones(num_bytes // 4, device=where, pin_memory=route == "upload")
    target = torch.empty(source.shape, device=device if route == "upload" else where)
    return lambda: target.copy_(source, non_blocking=route == "upload")

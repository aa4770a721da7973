"""Where the time of a computation goes, by torch's profiler: operators, and on a GPU how long its
kernels keep it busy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.measure import repeat, synchronise, timed

_DEVICES: Any = torch.autograd.DeviceType  # type: ignore[attr-defined]


@dataclass(frozen=True)
class OperatorTime:
    """All calls of an operator: the time in it itself, not in those it calls; on a GPU that of the
    kernels that it starts.
    """

    name: str
    num_calls: int
    seconds: float


@dataclass(frozen=True)
class GpuUse:
    """How a GPU spends some steps."""

    busy_share: float
    """Time in which at least one kernel runs, of the wall time."""
    kernels_per_step: float
    launches_per_step: float
    """Calls that start kernels; fewer where a CUDA graph starts many."""


def profile_operators(task: Callable[[], object], device: torch.device) -> list[OperatorTime]:
    """Times of one call of `task`, the longest first.

    Kernels are their operators' and not counted again for themselves; those that none started, such
    as a CUDA graph's, are one entry, "kernels of no operator".
    """
    is_cuda = device.type == "cuda"
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * is_cuda
    with profile(activities=activities, acc_events=True) as recorded:
        task()
        synchronise(device)
    found = []
    for event in recorded.key_averages():
        if event.device_type == _DEVICES.CPU:
            time_us = event.self_device_time_total if is_cuda else event.self_cpu_time_total
            found.append(OperatorTime(event.key, event.count, time_us / 1e6))
    if is_cuda:
        kernels_s = sum(stop - start for start, stop in _kernel_intervals(recorded.events())) / 1e6
        rest_s = kernels_s - sum(operator.seconds for operator in found)
        found.append(OperatorTime("kernels of no operator", 0, max(rest_s, 0.0)))
    return sorted(found, key=lambda operator: -operator.seconds)


def measure_gpu_use(
    task: Callable[[], object], num_steps: int, device: torch.device
) -> GpuUse | None:
    """How the GPU spends `num_steps` calls of `task`; None on a CPU, where nothing is launched."""
    if device.type != "cuda":
        return None
    with profile(activities=[ProfilerActivity.CUDA], acc_events=True):  # the profiler's own start
        task()
        synchronise(device)
    with profile(activities=[ProfilerActivity.CUDA], acc_events=True) as recorded:
        _, seconds = timed(partial(repeat, task, num_steps), device)
    events = recorded.events()
    kernels = _kernel_intervals(events)
    launches = [event for event in events if event.name.startswith("cu") and "Launch" in event.name]
    return GpuUse(
        busy_share=covered(kernels) / 1e6 / seconds,
        kernels_per_step=len(kernels) / num_steps,
        launches_per_step=len(launches) / num_steps,
    )


def _kernel_intervals(events: Any) -> list[tuple[float, float]]:
    """Start and end of every kernel in µs; copies, fills and named ranges are none."""
    return [
        (event.time_range.start, event.time_range.end)
        for event in events
        if event.device_type == _DEVICES.CUDA
        and not event.is_user_annotation
        and not event.name.startswith(("Memcpy", "Memset"))
    ]


def covered(intervals: Iterable[tuple[float, float]]) -> float:
    """Length of the union of (start, end) intervals."""
    total, reached = 0.0, float("-inf")
    for start, end in sorted(intervals):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total

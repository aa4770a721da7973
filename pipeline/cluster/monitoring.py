"""Rates and shares of a stage as Ray's own metrics, which every node's agent offers to Prometheus;
`ray_configs/grafana-dashboard.json` draws them. Where this process is not on Ray nothing happens.
"""

from __future__ import annotations

import sys
from functools import cache
from typing import Any

COUNTERS = {
    "samples_rendered": "Synthetic samples rendered and published",
    "shards_rendered": "Shards rendered and published",
    "samples_trained": "Samples that a training has gone through, by its first worker",
    "probes_fitted": "Probes fitted and scored",
}
GAUGES = {
    "writer_wait_share": "Share of the rendering time spent waiting for the writer",
    "loader_wait_share": "Share of a trainer's time spent waiting for rows",
    "gpu_memory_bytes": "Most memory that a trainer's tensors have taken on its GPU",
    "loss": "Loss of a training",
}
PREFIX = "squeeze_span_"
"""Ray adds `ray_` before it, and Prometheus `_total` after a counter."""
_TAG = "work"


def count(name: str, amount: float, work: str) -> None:
    """Add `amount` to the counter `name` of COUNTERS; `work` names the run or the pool."""
    if amount > 0 and _is_on_ray():
        _counter(name).inc(amount, {_TAG: work})


def show(name: str, value: float, work: str) -> None:
    """Set the gauge `name` of GAUGES; `work` names the run or the pool."""
    if _is_on_ray():
        _gauge(name).set(value, {_TAG: work})


def _is_on_ray() -> bool:
    ray = sys.modules.get("ray")
    return ray is not None and bool(ray.is_initialized())


@cache
def _counter(name: str) -> Any:
    from ray.util.metrics import Counter

    return Counter(PREFIX + name, COUNTERS[name], (_TAG,))


@cache
def _gauge(name: str) -> Any:
    from ray.util.metrics import Gauge

    return Gauge(PREFIX + name, GAUGES[name], (_TAG,))

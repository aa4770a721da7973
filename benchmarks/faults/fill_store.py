"""A neighbour on the cluster: puts objects into every node's object store and holds them.

Run on a host with the megabytes for each node; prints a line when they are there.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import numpy as np
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy


class Holder:
    """Objects of 4 MB on its node."""

    def __init__(self, megabytes: int) -> None:
        self._held: list[Any] = [
            ray.put(np.full(4 << 20, index, np.uint8)) for index in range(megabytes // 4)
        ]

    def count(self) -> int:
        """How many there are."""
        return len(self._held)


def main() -> None:
    """Fill, say so, wait to be ended."""
    ray.init(log_to_driver=False)
    holder: Any = ray.remote(num_cpus=0)(Holder)
    holders = [
        holder.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        ).remote(int(sys.argv[1]))
        for node in ray.nodes()  # type: ignore[no-untyped-call]
        if node["Alive"]
    ]
    print(ray.get([holder.count.remote() for holder in holders]), flush=True)
    while True:
        time.sleep(1)


if __name__ == "__main__":
    main()

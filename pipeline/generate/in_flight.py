"""Shards that are being rendered on a cluster, each by one task, or by two once a node has died.

A node that vanishes without a word, unplugged or without power, leaves its tasks unanswered: Ray
knows within seconds that it is dead, but gives up its connections, and tries the tasks again, only
after minutes. So what was in hand when a node died is given out once more. Which task is done first
does not matter: both write the same bytes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from pipeline import cluster

_LOOK_S = 1.0
Item = tuple[int, tuple[str, ...]]
"""Index of a shard, and the sets to render of it."""


class InFlight:
    """Tasks at work.

    Args:
        submit: starts a task for an item; returns its reference.
    """

    def __init__(self, submit: Callable[[Item], Any]) -> None:
        self._submit = submit
        self._items: dict[Any, Item] = {}
        self._num_dead, self._looked_at = cluster.count_dead_nodes(), time.monotonic()

    def __len__(self) -> int:
        """Shards in hand."""
        return len(set(self._items.values()))

    def add(self, item: Item) -> None:
        """Start rendering a shard."""
        self._items[self._submit(item)] = item

    def ended(self) -> Iterator[tuple[Any, int]]:
        """Reference and shard index of what ends within a second, each shard once; one that failed
        counts, too.
        """
        for reference in cluster.wait_for_any(self._items):
            item = self._items.pop(reference, None)
            if item is None:  # the other task was quicker
                continue
            for twin in [other for other, same in self._items.items() if same == item]:
                del self._items[twin]
                cluster.cancel(twin)
            yield reference, item[0]
        if time.monotonic() - self._looked_at > _LOOK_S:
            self._replace_lost()

    def _replace_lost(self) -> None:
        num_dead = cluster.count_dead_nodes()
        if num_dead > self._num_dead:
            for item in sorted(set(self._items.values())):
                self.add(item)
        self._num_dead, self._looked_at = num_dead, time.monotonic()

    def cancel(self) -> None:
        """Leave all of it."""
        for reference in self._items:
            cluster.cancel(reference)

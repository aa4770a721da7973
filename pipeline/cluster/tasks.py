"""Work in the hands of a cluster's tasks: each piece in one, or in two once a node has died.

A node that vanishes without a word, unplugged or without power, leaves its tasks unanswered: Ray
knows within seconds that it is dead, but gives up its connections, and tries the tasks again, only
after minutes. So what was in hand when a node died is given out once more. Which task is done first
does not matter: both have the same result.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterator
from typing import Any, Generic, TypeVar

from pipeline.cluster import connection

LOOK_S = 1.0

T = TypeVar("T", bound=Hashable)


class InFlight(Generic[T]):
    """Tasks at work.

    Args:
        submit: starts a task for an item; returns its reference.
    """

    def __init__(self, submit: Callable[[T], Any]) -> None:
        self._submit = submit
        self._items: dict[Any, T] = {}
        self._num_dead, self._looked_at = _count_dead_nodes(), time.monotonic()

    def __len__(self) -> int:
        """Pieces in hand."""
        return len(set(self._items.values()))

    def add(self, item: T) -> None:
        """Start a task."""
        self._items[self._submit(item)] = item

    def ended(self) -> Iterator[tuple[Any, T]]:
        """Reference and item of what ends within a second, each once; a failure counts, too."""
        for reference in connection.wait_for_any(self._items):
            item = self._items.pop(reference, None)
            if item is None:  # the other task was quicker
                continue
            twins = [other for other, same in self._items.items() if same == item]
            for twin in twins:
                del self._items[twin]
            connection.cancel(twins)
            yield reference, item
        if time.monotonic() - self._looked_at > LOOK_S:
            self._replace_lost()

    def _replace_lost(self) -> None:
        num_dead = _count_dead_nodes()
        if num_dead > self._num_dead:
            for item in dict.fromkeys(self._items.values()):
                self.add(item)
        self._num_dead, self._looked_at = num_dead, time.monotonic()

    def cancel(self) -> None:
        """Leave all of it."""
        connection.cancel(self._items)


def _count_dead_nodes() -> int:
    return sum(not node["Alive"] for node in connection.list_nodes())

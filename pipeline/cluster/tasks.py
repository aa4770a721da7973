"""Work handed to a cluster piece by piece: bounded, each piece in one task, or in two once a node
has died.

A node that vanishes without a word, unplugged or without power, leaves its tasks unanswered: Ray
knows within seconds that it is dead, but gives up its connections, and tries the tasks again, only
after minutes. So what was in hand when a node died is given out once more. Which task is done first
does not matter: both have the same result. Neighbours: rendering, probes, transfer and the
trainings of a study all go through `run_tasks`.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, Literal, Protocol, TypeVar

from pipeline.cluster import capacity, connection
from pipeline.config.ray import RayConfig
from pipeline.terminal.progress import console
from shards.errors import UserError

LOOK_S = 1.0
MAX_RETRIES = 4
_POLL_S = 1.0
_HOPELESS = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS)

T = TypeVar("T", bound=Hashable)
T_co = TypeVar("T_co", bound=Hashable, covariant=True)


class WorkSource(Protocol[T_co]):
    """Pieces of work that are still to be handed out."""

    def __len__(self) -> int: ...

    def next(self) -> T_co | None:
        """One of them; None if there is none at the moment."""


class Listed(Generic[T]):
    """A source of known pieces, in their order."""

    def __init__(self, items: Sequence[T]) -> None:
        self._waiting = list(reversed(items))

    def __len__(self) -> int:
        return len(self._waiting)

    def next(self) -> T | None:
        """The next one."""
        return self._waiting.pop() if self._waiting else None


@dataclass(frozen=True)
class Places:
    """Where tasks of some work run, and how many at once."""

    ray: RayConfig
    work: capacity.WorkKind
    workers: int | Literal["all"]


class WorkerDied(RuntimeError):
    """A task's process died as often as Ray tries."""


Refuse = Callable[[object], UserError]
"""What to say of a file that could not be read or written, given why."""


def spare_retries(error: OSError, refuse: Refuse) -> Exception:
    """Within a task that Ray tries again after an OSError: that error, or what ends it at once
    where another try would be of no use.
    """
    return refuse(error) if error.errno in _HOPELESS else error


@dataclass(frozen=True)
class Answer:
    """What came of a task."""

    reference: Any

    def get(self) -> Any:
        """What the function returned.

        Raises:
            UserError: as the function did.
            WorkerDied: if its process died, and died again.
            Exception: whatever else the function raised.
        """
        import ray

        try:
            return ray.get(self.reference)
        except UserError as error:
            raise UserError(str(getattr(error, "cause", error))) from None
        except ray.exceptions.WorkerCrashedError as error:
            raise WorkerDied(" ".join(str(error).split())) from None

    def get_made(self, what: str, refuse: Refuse) -> Any:
        """What a task returned that makes files; `what` it makes, for messages.

        Raises:
            UserError: if it could not, or its process died, and died again.
            Exception: whatever else the function raised, with a note.
        """
        try:
            return self.get()
        except UserError:
            raise
        except OSError as error:
            raise refuse(getattr(error, "cause", error)) from None
        except WorkerDied:
            raise UserError(
                f"{what}: its worker died {MAX_RETRIES + 1} times; it may have had too little "
                "memory"
            ) from None
        except Exception as error:
            error.add_note(f"while making {what}")
            raise


def share(value: Any, places: Places) -> Any:
    """A reference to `value`, which is sent once, however many tasks take it."""
    connection.connect(places.ray)
    import ray

    return ray.put(value)


def fetch(reference: Any) -> Any:
    """Within a task: what `share` was given."""
    import ray

    return ray.get(reference)


@contextmanager
def run_tasks(
    function: Callable[..., Any],
    source: WorkSource[T],
    arguments: Callable[[T], tuple[Any, ...]],
    places: Places,
    *,
    name: str | None = None,
    retry_on: Sequence[type[Exception]] = (),
    watch: Callable[[int], None] = lambda in_hand: None,
) -> Iterator[Iterator[tuple[T, Answer]]]:
    """A context: each piece of `source` with what came of `function(*arguments(piece))`, as it
    ends. What is in hand when the block ends, is interrupted or fails, is given up there.

    Args:
        function: at the top level of its module.
        source: what to do.
        arguments: of the function.
        places: where, and how many at once.
        name: of the tasks in Ray's tables; by default the function's.
        retry_on: errors after which Ray tries a task again, as it does when a process dies.
        watch: hears how many pieces are in hand.

    Raises:
        UserError: if the cluster does not answer, or can never have room for one task.
    """
    connection.connect(places.ray)
    capacity.require(places.ray, places.work)
    import ray

    task = ray.remote(function).options(
        name=name or function.__name__,
        **capacity.task_options(places.ray, places.work),
        max_retries=MAX_RETRIES,
        retry_exceptions=list(retry_on),
    )
    in_flight = InFlight[T](lambda item: task.remote(*arguments(item)))
    bound = capacity.Limit(places.ray, places.work, places.workers)
    try:
        yield _as_they_end(source, in_flight, bound, watch)
    finally:
        in_flight.cancel()


def _as_they_end(
    source: WorkSource[T],
    in_flight: InFlight[T],
    bound: capacity.Limit,
    watch: Callable[[int], None],
) -> Iterator[tuple[T, Answer]]:
    while len(source) or len(in_flight):
        while len(in_flight) < bound.now and (item := source.next()) is not None:
            in_flight.add(item)
        watch(len(in_flight))
        if not len(in_flight):
            time.sleep(_POLL_S)
            continue
        for reference, ended in in_flight.ended():
            yield ended, Answer(reference)
            watch(len(in_flight))


class InFlight(Generic[T]):
    """Tasks at work; `submit` starts one for an item, and returns its reference."""

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
            lost = num_dead - self._num_dead
            console.print(
                f"cluster   lost {lost} node{'s' if lost > 1 else ''}; its work is given out "
                f"again, {len(self)} tasks",
                soft_wrap=True,
            )
            for item in dict.fromkeys(self._items.values()):
                self.add(item)
        self._num_dead, self._looked_at = num_dead, time.monotonic()

    def cancel(self) -> None:
        """Leave all of it."""
        connection.cancel(self._items)


def _count_dead_nodes() -> int:
    return sum(not node["Alive"] for node in connection.list_nodes())

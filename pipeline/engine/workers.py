"""A function applied to pieces of work: one after the other in this process, or as tasks on Ray.

What measures students is written once, as functions at the top level of a module that take a piece
and the device to compute on, and return what travels. Neighbour: `launch.py` runs trainings.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from pipeline.cluster.tasks import Listed, Places, fetch, run_tasks, share
from pipeline.config.ray import RayConfig

if TYPE_CHECKING:
    import torch

T = TypeVar("T")


class Shared(Generic[T]):
    """A value that every piece of work takes, sent to a worker once."""

    def __init__(self, value: T | None, reference: Any = None) -> None:
        self._value, self._reference = value, reference

    def get(self) -> T:
        """The value; a worker keeps the last few."""
        found: Any = self._value if self._reference is None else _fetch(self)
        return cast(T, found)

    def __hash__(self) -> int:
        return hash(self._reference)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Shared) and self._reference == other._reference

    def __reduce__(self) -> tuple[Any, ...]:
        return Shared, (None if self._reference is not None else self._value, self._reference)


@lru_cache(maxsize=2)
def _fetch(shared: Shared[Any]) -> Any:
    return fetch(shared._reference)


@dataclass(frozen=True)
class Workers:
    """Where students are measured: `ray.eval_workers` says whether in this process."""

    ray: RayConfig
    device: str
    """As `hardware.device`, of this process; Ray's workers take a GPU if they were lent one."""

    @property
    def are_here(self) -> bool:
        """Whether all is done in this process."""
        return self.ray.eval_workers == 0

    @property
    def kind(self) -> str:
        """Of the devices that compute: `cpu` or `cuda`."""
        if not self.are_here:
            return "cuda" if self.ray.gpus_per_worker else "cpu"
        from pipeline.engine.device import choose_device

        return choose_device(self.device).type

    @property
    def _places(self) -> Places:
        return Places(self.ray, "eval", self.ray.eval_workers)

    def share(self, value: T) -> Shared[T]:
        """For pieces of work to hold."""
        return Shared(value) if self.are_here else Shared(None, share(value, self._places))

    def run(
        self, function: Callable[..., T], pieces: Sequence[tuple[Any, ...]]
    ) -> Generator[tuple[int, T]]:
        """Position of each of `pieces` and what `function(*piece, device)` returns for it, as they
        end; a piece whose process died is tried again.

        Raises:
            UserError: as the function did, or if the cluster has no room for a task.
        """
        if self.are_here:
            from pipeline.engine.device import choose_device

            device = choose_device(self.device)
            for position, piece in enumerate(pieces):
                yield position, function(*piece, device)
            return
        if not pieces:
            return
        with run_tasks(
            _work,
            Listed(range(len(pieces))),
            lambda position: (function, pieces[position], self.kind),
            self._places,
            name=function.__name__,
            retry_on=[OSError],
        ) as ended:
            for position, answer in ended:
                yield position, answer.get()

    def run_one(self, function: Callable[..., T], *piece: Any) -> T:
        """Likewise of one piece."""
        ((_, found),) = self.run(function, [piece])
        return found


def _work(function: Callable[..., T], piece: tuple[Any, ...], kind: str) -> T:
    """Runs in a Ray worker, on one processor and, if it was lent one, a GPU: one that is lent none
    may see some all the same.
    """
    import torch

    from pipeline.engine.device import choose_device

    torch.set_num_threads(1)
    device: torch.device = choose_device(kind)
    return function(*piece, device)

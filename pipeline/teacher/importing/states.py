"""State dicts in what a file holds: alone, within dictionaries, from DataParallel.

Neighbours: `source.py` reads files; `module_tree.py` does the same for whole networks.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from pipeline.teacher.importing.stored_tensors import Stored, WeightBudget
from pipeline.teacher.spelling import Spelling

MAX_DEPTH = 5
MAX_PARTS = 4
PARALLEL = "module."
"""What DataParallel puts in front of every name."""


_AVERAGED = re.compile(r"(?i)(?:^|[._])(?:ema|avg|averaged?)(?:$|[._])|ema(?:$|\.)")


@dataclass(frozen=True)
class StateDict:
    """Tensors of a network by name, as the network itself names them, in the file's order."""

    place: str
    """Keys of the file that lead to it, with dots between them; "" for the file itself."""
    prefix: str
    """In front of every name in the file."""
    entries: Mapping[str, Stored]

    @classmethod
    def of(cls, place: str, entries: Mapping[str, Stored]) -> StateDict:
        """`entries` without the prefix of DataParallel."""
        if entries and all(name.startswith(PARALLEL) for name in entries):
            return cls(place, PARALLEL, _without(PARALLEL, entries))
        return cls(place, "", entries)

    @property
    def key(self) -> str:
        """What was taken of the file: its keys, and what was in front of the names."""
        return f"{self.place}.{self.prefix.removeprefix(PARALLEL)}".strip(".")

    @property
    def is_averaged(self) -> bool | None:
        """Whether `key` says that the weights are averaged over the training: `G_ema` beside `G`;
        None where it says nothing.
        """
        if _AVERAGED.search(self.key):
            return True
        return False if "g" in self.key.lower().split(".") else None

    @property
    def notes(self) -> list[str]:
        """For people: that the weights are not averaged."""
        if self.is_averaged is not False:
            return []
        return ["the file has no G_ema: these weights are not averaged over the training"]

    @property
    def spelling(self) -> Spelling:
        """The names in the file."""
        return Spelling.under(f"{self.place}." * bool(self.place) + self.prefix)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of the tensors, none of which is loaded for it."""
        return {name: entry.shape for name, entry in self.entries.items()}

    def under(self, prefix: str) -> StateDict:
        """The part whose names start with `prefix`, without it."""
        return StateDict(self.place, self.prefix + prefix, _without(prefix, self.entries))

    def only(self, is_wanted: Callable[[str], bool]) -> StateDict:
        """The part with the names that are wanted."""
        entries = {name: entry for name, entry in self.entries.items() if is_wanted(name)}
        return StateDict(self.place, self.prefix, entries)

    def load(self) -> dict[str, Tensor]:
        """The tensors, checked.

        Raises:
            UserError: for one that is not sound.
            ValueError: for more than a network has.
        """
        budget = WeightBudget()
        return {name: budget.load(entry) for name, entry in self.entries.items()}


def find_states(content: Any) -> dict[str, StateDict]:
    """Every dictionary that holds tensors, by the keys that lead to it with dots between them.

    Other values beside the tensors are passed over. `module.` is dropped.
    """
    return {place: StateDict.of(place, entries) for place, entries in _walk(content, "", 0)}


def _walk(content: Any, place: str, depth: int) -> Iterator[tuple[str, dict[str, Stored]]]:
    if not isinstance(content, dict) or depth > MAX_DEPTH:
        return
    entries = {str(name): value for name, value in content.items() if isinstance(value, Stored)}
    if entries:
        yield place, entries
    for name, value in content.items():
        yield from _walk(value, f"{place}.{name}" if place else str(name), depth + 1)


def joined(states: Mapping[str, StateDict]) -> StateDict:
    """All of `states` as one, names joined with dots."""
    return StateDict.of(
        "",
        {
            f"{place}.{name}" if place else name: entry
            for place, state in states.items()
            for name, entry in state.entries.items()
        },
    )


def find_part(
    states: Mapping[str, StateDict], is_wanted: Callable[[StateDict], bool]
) -> StateDict | None:
    """The first of `states` that is wanted; else the first part of one, such as all that is under
    `generator.`. Averaged weights come before others.
    """
    level = list(states.values())
    for _ in range(MAX_PARTS):
        found = [state for state in level if is_wanted(state)]
        if found:
            return next((state for state in found if state.is_averaged), found[0])
        level = [part for state in level for part in _parts(state)]
    return None


def find_network(states: Mapping[str, StateDict], sign: str) -> StateDict | None:
    """The part with a tensor called `sign`, as `find_part` chooses it."""
    return find_part(states, lambda state: sign in state.entries)


def _parts(state: StateDict) -> list[StateDict]:
    """What is under each first part of the names."""
    groups: dict[str, dict[str, Stored]] = {}
    for name, entry in state.entries.items():
        first, dot, rest = name.partition(".")
        if dot:
            groups.setdefault(f"{first}.", {})[rest] = entry
    return [
        StateDict(state.place, state.prefix + first, entries) for first, entries in groups.items()
    ]


def _without(prefix: str, entries: Mapping[str, Stored]) -> dict[str, Stored]:
    return {n.removeprefix(prefix): e for n, e in entries.items() if n.startswith(prefix)}

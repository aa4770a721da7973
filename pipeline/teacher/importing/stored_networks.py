"""Which of the networks in a file is the one to import: found by a tensor that only it has.

Neighbours: the layouts whose networks look alike however they are stored – whole, as a state dict,
under any prefix.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from pipeline.teacher.importing.module_tree import ModuleTree
from pipeline.teacher.importing.states import StateDict


class FoundNetwork(NamedTuple):
    """A network of the file."""

    name: str
    """Keys and prefix that lead to it, "" for the file itself."""
    state: StateDict
    is_averaged: bool | None
    """Whether its name says that the weights are averaged; None where it says nothing."""

    def tree(self, trees: Mapping[str, ModuleTree]) -> ModuleTree | None:
        """The modules that hold it, where the file has those."""
        return None if self.state.prefix else trees.get(self.state.place)

    @property
    def notes(self) -> list[str]:
        """For people: that weights are not averaged."""
        if self.is_averaged is not False:
            return []
        return ["the file has no G_ema: these weights are not averaged over the training"]


def find_network(states: Mapping[str, StateDict], sign: str) -> FoundNetwork | None:
    """The network with a tensor called `sign`, perhaps under a prefix; of several one with averaged
    weights, else the first.
    """
    found = [
        FoundNetwork(name, state.under(prefix), _is_averaged(name))
        for state in states.values()
        for prefix in _prefixes(state.entries, sign)
        for name in [".".join(filter(None, (state.place, prefix.rstrip("."))))]
    ]
    averaged = [network for network in found if network.is_averaged]
    return next(iter(averaged + found), None)


def _prefixes(names: Iterable[str], sign: str) -> list[str]:
    """What stands in front of `sign`, each with its dot."""
    return [n.removesuffix(sign) for n in names if n == sign or n.endswith(f".{sign}")]


def _is_averaged(name: str) -> bool | None:
    """By the usual names: `G_ema` beside `G`."""
    parts = name.lower().split(".")
    if any(part.endswith("ema") for part in parts):
        return True
    return False if "g" in parts else None

"""A stored network as a tree of modules: their states by dotted name, and their tensors.

Persistent modules and plain pickled torch modules look alike here. Neighbour: `states.py` finds
trees and state dicts in what a file holds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.teacher.importing.stand_ins import StoredModule
from pipeline.teacher.importing.states import StateDict
from pipeline.teacher.importing.stored_tensors import Stored

MAX_MODULES = 20_000
MAX_TENSORS = 200_000
"""Of all networks in a file, which may share modules."""
MAX_DEPTH = 32
MAX_DICTIONARIES = 4
KINDS = ("_parameters", "_buffers")


@dataclass(frozen=True)
class ModuleTree:
    """A network of a file."""

    place: str
    """Where in the file it is, such as `G_ema`."""
    modules: Mapping[str, StoredModule]
    """Every submodule by its dotted name, "" for the network itself."""
    weights: StateDict
    """Its parameters and buffers."""

    def state(self, name: str) -> Mapping[str, Any]:
        """Attributes of the submodule `name`; none where there is no such module."""
        module = self.modules.get(name)
        return {} if module is None else module.state

    @property
    def class_names(self) -> set[str]:
        """Names of its modules' classes, without their packages."""
        return {module.class_name for module in self.modules.values()}


def is_module(content: Any) -> bool:
    """Whether `content` is a torch module rather than some other object."""
    return isinstance(content, StoredModule) and "_modules" in content.state


def find_trees(content: Any) -> dict[str, ModuleTree]:
    """Every network in `content` or its dictionaries, by the keys that lead to it.

    Raises:
        ValueError: naming a part of one that is no module or tensor.
    """
    found: dict[str, ModuleTree] = {}

    def walk(content: Any, place: str, depth: int) -> None:
        if is_module(content):
            found[place] = _read_tree(content, place, found)
        elif isinstance(content, dict) and depth < MAX_DICTIONARIES:
            for name, value in content.items():
                walk(value, _join(place, str(name)), depth + 1)

    walk(content, "", 0)
    return found


def _read_tree(root: StoredModule, place: str, others: Mapping[str, ModuleTree]) -> ModuleTree:
    modules: dict[str, StoredModule] = {}
    entries: dict[str, Stored] = {}
    num_modules = sum(len(tree.modules) for tree in others.values())
    num_entries = sum(len(tree.weights.entries) for tree in others.values())

    def walk(module: StoredModule, prefix: str, depth: int) -> None:
        modules[prefix] = module
        for kind in KINDS:
            for name, value in _members(module, kind, _join(place, prefix)):
                if not isinstance(value, Stored):
                    raise ValueError(f"{_join(place, prefix, name)}: not a tensor")
                entries[_join(prefix, name)] = value
        if (
            depth > MAX_DEPTH
            or num_modules + len(modules) > MAX_MODULES
            or num_entries + len(entries) > MAX_TENSORS
        ):
            raise ValueError(
                f"{_join(place, prefix)}: modules nested too deeply, or shared too often"
            )
        for name, child in _members(module, "_modules", _join(place, prefix)):
            if not isinstance(child, StoredModule):
                raise ValueError(f"{_join(place, prefix, name)}: not a module")
            walk(child, _join(prefix, name), depth + 1)

    walk(root, "", 0)
    return ModuleTree(place, modules, StateDict.of(place, entries))


def _members(module: StoredModule, kind: str, place: str) -> Iterator[tuple[str, Any]]:
    """Those that are there; torch keeps None for a parameter that a module does without."""
    members = module.state.get(kind) or {}
    if not isinstance(members, dict):
        raise ValueError(f"{_join(place, kind)}: not a dictionary")
    return ((str(name), value) for name, value in members.items() if value is not None)


def _join(*parts: str) -> str:
    return ".".join(part for part in parts if part)

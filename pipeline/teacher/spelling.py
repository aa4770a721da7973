"""How a file writes the tensors of a network, for messages about that file.

`importing/` gives what it reads the names and layouts of our modules; a message has those that its
reader finds in the file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass


def _as_it_is(_: str, shape: Sequence[int]) -> list[int]:
    return list(shape)


@dataclass(frozen=True)
class Spelling:
    """A file's names and shapes, from those of a network's state dict; by default the same."""

    name: Callable[[str], str] = str
    """Of a tensor, whether the file has it or not."""
    shape: Callable[[str, Sequence[int]], list[int]] = _as_it_is
    """Of the tensor with that name in the state dict and that shape there."""

    @classmethod
    def under(cls, prefix: str) -> Spelling:
        """Every name with `prefix` in front."""
        return cls(lambda name: f"{prefix}{name}")

    def without(self, prefix: str) -> Spelling:
        """For a network whose every name has `prefix` in front, which the file does not have."""
        return Spelling(
            lambda name: self.name(name.removeprefix(prefix)),
            lambda name, shape: self.shape(name.removeprefix(prefix), shape),
        )

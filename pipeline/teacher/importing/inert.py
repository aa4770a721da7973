"""What every stand-in for a part of a file builds on: nothing of the file's choice happens."""

from __future__ import annotations

import pickle
from typing import Any

MAX_DIMS = 8


class Inert:
    """A stand-in that refuses BUILD, which would otherwise set attributes of the file's choice."""

    __slots__ = ()

    def __setstate__(self, state: object) -> None:
        raise pickle.UnpicklingError(f"state for a {type(self).__name__}")


def to_extents(numbers: Any) -> tuple[int, ...]:
    """Counts, such as a shape; raises ValueError for anything else."""
    if not isinstance(numbers, list | tuple) or len(numbers) > MAX_DIMS:
        raise ValueError("no shape")
    if not all(type(number) is int and number >= 0 for number in numbers):
        raise ValueError("a shape of other things than counts")
    return tuple(numbers)


def brief(error: object) -> str:
    """One printable line; the text of an error may hold what a file wants printed."""
    known = error.strerror if isinstance(error, OSError) else None
    return ascii(known or str(error) or type(error).__name__)[1:-1][:120]

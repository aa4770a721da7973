"""What every source of real images comes down to: entries in a fixed order, and a reader of them.

Neighbours: a module for each kind of source; `recognise.py` finds out which one it is,
`real/listing.py` keeps the entries, `real/pack.py` reads what they name. Sources are small values
that travel to workers.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import NamedTuple, Protocol

import numpy as np
import pyarrow as pa

from shards.errors import UserError


class Entry(NamedTuple):
    """One image, before anybody has looked at it."""

    source: bytes
    """Its path within the source, or its key there, as users would look for it."""
    label: str | None = None
    """Name or number of its class; None for an image without label."""
    file: int = -1
    """Which of the source's files has it; -1 where it is a file itself."""
    position: int = -1
    """Where in that file: a byte or a row."""
    size: int = 0
    """Bytes there."""
    stamp: int = 0
    """Time of its last change in ns, checksum, or whatever else tells another content."""
    problem: str | None = None
    """Why there is no image, where that is known without a look at it."""


class Row(NamedTuple):
    """What a reader needs of an entry."""

    source: bytes
    file: int
    position: int
    size: int


@dataclass
class Findings:
    """What a listing says beside its entries; filled while they are iterated."""

    left_out: Counter[str] = field(default_factory=Counter)
    """What is there and not taken: kind -> number."""
    folders: list[tuple[str, int]] = field(default_factory=list)
    """Folders that entries are from, with the times of their last change in ns."""
    has_numbers: bool = False
    """Whether labels that look like numbers are numbers of classes, not names of folders."""
    notes: list[str] = field(default_factory=list)
    """What users should know of the source, each line once."""

    def note(self, line: str) -> None:
        """Add to the notes."""
        if line not in self.notes:
            self.notes.append(line)


class File(NamedTuple):
    """A file that holds many images."""

    url: str
    size: int
    stamp: int


@dataclass(frozen=True)
class Member:
    """An image as shards have it already: a file of their codec, or pixels uint8 [3, R, R]."""

    value: bytes | np.ndarray


Content = bytes | np.ndarray | Member
"""Bytes of an image file, pixels uint8 [H, W] or [H, W, 3], or a sample's image."""


def label_text(value: object, place: str) -> str | None:
    """A label as listings have it: the name or number of a class. None for null and for negative
    numbers, by which sets say that there is none.

    Raises:
        UserError: naming `place`, for what is no class: a list, or a number that is not whole.
    """
    if isinstance(value, float):
        if math.isnan(value):
            return None
        value = int(value) if value.is_integer() else [value]
    if value is None or value == "" or (isinstance(value, int) and value < 0):
        return None
    if isinstance(value, int | str):
        return str(value)
    raise UserError(
        f"real.label_field: {place} has {value!r}"[:300] + ", which is no class; name another field"
    )


def by_file(rows: Sequence[Row]) -> Iterator[tuple[int, list[int]]]:
    """Each file of rows that follow each other, with their positions in it."""
    for file, neighbours in groupby(rows, key=lambda row: row.file):
        yield file, [row.position for row in neighbours]


class Images(Protocol):
    """What has images that rows name; travels to workers."""

    @property
    def files(self) -> tuple[File, ...]:
        """Files that hold them, as `Row.file` counts; () for a folder, whose files do not."""

    def open(self) -> Reader:
        """A reader of them."""


class Reader(Protocol):
    """Reads what entries name; for one process."""

    def read(self, rows: Sequence[Row]) -> Iterator[Content | Exception]:
        """Content of each of `rows`, in their order; an `UnreadableError` for one that cannot be
        had whoever asks.

        Raises:
            OSError: if it may be had another time.
        """


class Source(Images, Protocol):
    """Images of one split."""

    @property
    def names(self) -> tuple[str, ...] | None:
        """Names of classes by number, where the source says so itself."""

    def identity(self) -> dict[str, object]:
        """What it is, in JSON: equal for sources that list the same."""

    def list_part(self, part: int, findings: Findings) -> Iterator[Entry]:
        """Entries of one of `files`, or of all where there are none, in a fixed order; each part
        on any machine.

        Raises:
            UserError: if it cannot be listed.
        """


ENTRY_SCHEMA = pa.schema(
    [
        ("source", pa.binary()),
        ("label", pa.string()),
        ("file", pa.int32()),
        ("position", pa.int64()),
        ("size", pa.int64()),
        ("stamp", pa.int64()),
        ("problem", pa.string()),
    ]
)


def entries_table(entries: Iterable[Entry]) -> pa.Table:
    """Entries as columns."""
    columns = list(zip(*entries, strict=True)) or [()] * len(ENTRY_SCHEMA)
    arrays = [
        pa.array(column, field.type) for column, field in zip(columns, ENTRY_SCHEMA, strict=True)
    ]
    return pa.Table.from_arrays(arrays, schema=ENTRY_SCHEMA)

"""Labels as sources have them -> numbers and names of classes that both splits share.

Neighbours: `listing.py` has the labels, `rows.py` numbers images with what this decides.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from pipeline.real.listing import Listing
from shards.errors import UserError


@dataclass(frozen=True)
class Classes:
    """Names of the classes, and for each split which label means which of them."""

    names: tuple[str, ...]
    numbers: dict[str, dict[str, int]]


def number_classes(
    listings: Mapping[str, Listing], wanted: Collection[str] | None = None
) -> Classes:
    """Classes of the splits, of `wanted` names only where given: those of the train split, or of
    the test split where that alone has labels. Names are sorted, as numbers if all are numbers;
    names that the source itself numbers stay in its order.

    Raises:
        UserError: for a test image of a class that the train split does not have, and for one of
            `wanted` that it does not have.
    """
    train, test = listings["train"], listings.get("test")
    first = train if train.labels or train.names or test is None else test
    names = _names(first)
    others = [other for other in (train, test) if other is not None and other is not first]
    for other in others:
        names = _extend(names, first, other)
    numbers = {}
    places = {name: number for number, name in enumerate(names)}
    for split, listing in listings.items():
        numbers[split] = {label: _number(label, listing, places, split) for label in listing.labels}
    if wanted is None:
        return Classes(names, numbers)
    absent = sorted(set(wanted) - set(names))
    if absent:
        raise UserError(
            f"real.classes: no images of {absent[0]!r}; correct the list or add them (there are "
            f"{_shorten(names)})"
        )
    kept = tuple(name for name in names if name in wanted)
    renumbered = {places[name]: number for number, name in enumerate(kept)}
    return Classes(
        kept,
        {
            split: {label: renumbered[n] for label, n in known.items() if n in renumbered}
            for split, known in numbers.items()
        },
    )


def _names(listing: Listing) -> tuple[str, ...]:
    if listing.names is not None:
        return listing.names
    if not listing.labels or not all(map(_is_number, listing.labels)):
        return listing.labels
    if listing.has_numbers:
        return tuple(map(str, range(max(map(int, listing.labels)) + 1)))
    return tuple(sorted(listing.labels, key=int))


def _extend(names: tuple[str, ...], first: Listing, other: Listing) -> tuple[str, ...]:
    """Names that the other split knows where the first has mere numbers."""
    if first.names is not None or not first.has_numbers or not all(map(_is_number, names)):
        return names
    if other.names is not None and len(other.names) >= len(names):
        return other.names
    if other.has_numbers and other.labels and all(map(_is_number, other.labels)):
        return tuple(map(str, range(max(len(names), max(map(int, other.labels)) + 1))))
    return names


def _number(label: str, listing: Listing, places: Mapping[str, int], split: str) -> int:
    """Place of the class that a label of `listing` means."""
    text = label
    if listing.names is not None:
        if not int(label) < len(listing.names):
            raise UserError(
                f"real.label_field: label {label} of a {split} image, but the source names "
                f"{len(listing.names)} classes only"
            )
        text = listing.names[int(label)]
    if text in places:
        return places[text]
    if listing.has_numbers and _is_number(label) and int(label) < len(places):
        return int(label)
    raise UserError(
        f"real.test: images of class {text!r}, which the train images do not have (they have "
        f"{_shorten(tuple(places))}); add train images of it, or move it"
    )


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _shorten(names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:10])
    return shown if len(names) <= 10 else f"{shown} and {len(names) - 10} more"

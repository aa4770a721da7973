"""Labels as sources have them -> numbers and names of classes that both splits share.

Neighbours: `listing.py` has the labels, `rows.py` numbers images with what this decides.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from pipeline.real.listing import MAX_CLASSES, Listing
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
    absent = sorted(set(wanted or ()) - set(names))
    if absent:
        raise UserError(
            f"real.classes: no images of {absent[0]!r}; correct the list or add them (there are "
            f"{_shorten(names)})"
        )
    places = {name: number for number, name in enumerate(names)}
    kept = names if wanted is None else tuple(name for name in names if name in wanted)
    renumbered = {places[name]: number for number, name in enumerate(kept)}
    numbers: dict[str, dict[str, int]] = {}
    learned = set(range(len(names)))  # by a probe of the train images
    for split, listing in sorted(listings.items(), reverse=True):  # train, test
        numbers[split] = {}
        found: set[int] = set()
        strangers: list[str] = []
        for label in listing.labels:
            text = _text(label, listing, split)
            number = _number(text, listing, places, first)
            if number not in learned and (wanted is None or text in wanted):
                strangers.append(text)
            if number in renumbered:
                numbers[split][label] = renumbered[number]
                found.add(number)
        if strangers:
            raise UserError(_refuse_strangers(strangers, names))
        learned = found or learned
    return Classes(kept, numbers)


def _refuse_strangers(strangers: Sequence[str], names: tuple[str, ...]) -> str:
    """Of classes that have test images alone."""
    is_one = len(strangers) == 1
    which = f"class {strangers[0]!r}" if is_one else f"classes {_shorten(strangers, repr)}"
    pronoun = "it" if is_one else "them"
    return (
        f"real.test: images of {which}, which the train images do not have (they have "
        f"{_shorten(names)}); add train images of {pronoun}, or move {pronoun}"
    )


def _names(listing: Listing) -> tuple[str, ...]:
    if listing.names is not None:
        return listing.names
    if not listing.labels or not all(map(_is_number, listing.labels)):
        return listing.labels
    if listing.has_numbers:
        return _count(listing)
    return tuple(sorted(listing.labels, key=int))


def _extend(names: tuple[str, ...], first: Listing, other: Listing) -> tuple[str, ...]:
    """Names that the other split knows where the first has mere numbers."""
    if first.names is not None or not first.has_numbers or not all(map(_is_number, names)):
        return names
    if other.names is not None and len(other.names) >= len(names):
        return other.names
    return names


def _count(listing: Listing) -> tuple[str, ...]:
    """Numbers from 0 to the greatest of its labels."""
    greatest = max(map(int, listing.labels))
    if greatest >= MAX_CLASSES:
        raise UserError(
            f"real.label_field: an image has label {greatest}, which cannot be the number of a "
            "class; name another field"
        )
    return tuple(map(str, range(greatest + 1)))


def _text(label: str, listing: Listing, split: str) -> str:
    """Name of a label's class, or the label where `listing` names none."""
    if listing.names is None:
        return label
    if not int(label) < len(listing.names):
        raise UserError(
            f"real.label_field: label {label} of a {split} image, but the source names "
            f"{len(listing.names)} classes only; fix the images' labels, or name another field"
        )
    return listing.names[int(label)]


def _number(text: str, listing: Listing, places: Mapping[str, int], first: Listing) -> int | None:
    """Place of the class that `text` of `listing` means among those of `first`; None for none.

    A number that nobody names counts places, but where those of `first` are folders that are named
    by numbers themselves.
    """
    is_number = listing.names is None and listing.has_numbers and _is_number(text)
    place = int(text) if is_number and int(text) < len(places) else None
    has_numbers = bool(first.labels) and all(map(_is_number, first.labels))
    if is_number and (first.names is not None or (first.has_numbers and has_numbers)):
        return place
    if text in places or first.has_numbers or has_numbers:
        return places.get(text)
    return place


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _shorten(names: Sequence[str], spell: Callable[[str], str] = str) -> str:
    shown = ", ".join(map(spell, names[:10]))
    return shown if len(names) <= 10 else f"{shown} and {len(names) - 10} more"

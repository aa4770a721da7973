"""Numbers of the ledger chosen by field, and gathered over seeds.

Neighbours: `ledger.py` reads them; `table.py` and `compare.py` lay groups side by side.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from pipeline.results.ledger import Number
from pipeline.results.spread import Summary, summarise
from shards.errors import UserError

FIELDS = tuple(Number.__dataclass_fields__)
_DIGESTS = ("split_digest", "training_digest", "student_digest", "teacher_digest", "pool_key",
            "commit")  # fmt: skip
_TEXTS = ("protocol", "versions", "device")
_MAX_SHOWN = 8
COLUMN = ("task", "dataset", "metric", "probe", "labels")
"""What a column of a table is."""
MUST_AGREE = ("task", "dataset", "split_digest", "metric", "probe", "labels", "protocol")
"""What all numbers of a column or a comparison share; of the protocol all but a remark in brackets
at its end.
"""
_REMARK = re.compile(r" \[[^][]*\]$")
TRAINING = ("training_digest", "method", "variant", "batch_norm", "epochs", "pool_key", "pool_size",
             "teacher_digest")  # fmt: skip
"""What repetitions of a training share."""

Filters = Mapping[str, Sequence[str]]
"""Field -> values, any of which will do."""


@dataclass(frozen=True)
class Group:
    """Numbers that differ in their seeds only, of one measurement of one thing."""

    numbers: tuple[Number, ...]
    over_trainings: bool
    """Whether the spread is over trainings; else over seeds of the evaluation."""
    across_runs: bool
    """Whether runs of any name were gathered."""

    @property
    def first(self) -> Number:
        """One of them, for what they share."""
        return self.numbers[0]

    @property
    def values(self) -> dict[int, float]:
        """Seed -> value; over trainings, `train_seed` -> mean over the evaluation's seeds."""
        if not self.over_trainings:
            return {number.seed: number.value for number in self.numbers}
        seeds = {number.train_seed: None for number in self.numbers}
        return {
            seed or 0: fmean(n.value for n in self.numbers if n.train_seed == seed)
            for seed in seeds
        }

    @property
    def summary(self) -> Summary:
        """Of the values."""
        return summarise(list(self.values.values()))


def parse_filters(texts: Sequence[str]) -> dict[str, list[str]]:
    """`field=value` texts; a field that is there several times has several values.

    Raises:
        UserError: for an unknown field.
    """
    filters: dict[str, list[str]] = {}
    for text in texts:
        field, equals, value = text.partition("=")
        if not equals:
            raise UserError(f"{text}: filters look like field=value; a config ends in .yaml")
        if field not in FIELDS:
            raise UserError(f"{field}: no such field; {near(field, FIELDS)}")
        filters.setdefault(field, []).append(value)
    return filters


def select(numbers: Sequence[Number], filters: Filters) -> list[Number]:
    """Those with a wanted value in every field: the beginning will do of a digest, a part of
    protocol, versions and device; `none` is an empty field.

    Raises:
        UserError: if no number has the wanted value, with those that there are.
    """
    kept = list(numbers)
    for field, wanted in filters.items():
        found = [n for n in kept if any(_matches(field, getattr(n, field), w) for w in wanted)]
        if kept and not found:
            values = dict.fromkeys(_text(getattr(number, field)) for number in kept)
            asked = " ".join(f"{field}={value}" for value in wanted)
            raise UserError(f"{asked}: no number has that; {near(wanted[0], list(values))}")
        kept = found
    return kept


def group(numbers: Sequence[Number], over_trainings: bool = False) -> list[Group]:
    """Gathered over seeds of the evaluation, each run by itself; or over trainings that differ in
    their seed only, under whatever names.

    Where the same was measured twice, the later one counts. What was not trained has no trainings:
    its spread is over seeds of the evaluation always.
    """
    gathered: dict[tuple[object, ...], dict[tuple[object, ...], Number]] = {}
    for number in sorted(numbers, key=lambda number: number.created_at):
        names = [*MUST_AGREE, "representation", *TRAINING]
        if not over_trainings:
            names += ["run", "student_digest", "train_seed"]
        key = tuple(_compared(number, name) for name in names)
        gathered.setdefault(key, {})[number.train_seed, number.seed] = number
    groups = []
    for members in gathered.values():
        ordered = sorted(members.items(), key=lambda item: (item[0][0] or 0, item[0][1]))
        chosen = tuple(number for _, number in ordered)
        is_trained = chosen[0].train_seed is not None
        groups.append(Group(chosen, over_trainings and is_trained, over_trainings))
    return groups


def of_first_set(numbers: Sequence[Number]) -> list[Number]:
    """Those of the set that an evaluation measured first: the run's own, if it has labels."""
    return [number for number in numbers if number.dataset == numbers[0].dataset]


def near(wanted: str, known: Sequence[str]) -> str:
    """What may have been meant by a name that is not among `known`."""
    close = difflib.get_close_matches(wanted, known, n=2)
    if close:
        return f"did you mean {' or '.join(close)}?"
    more = f" and {len(known) - _MAX_SHOWN} more" if len(known) > _MAX_SHOWN else ""
    return f"there are {', '.join(known[:_MAX_SHOWN])}{more}"


def name_differences(first: Number, second: Number, fields: Sequence[str]) -> list[str]:
    """One text for each of `fields` that differs, with only the parts of long texts that do."""
    texts = []
    for name in fields:
        one, other = (_text(_compared(number, name)) for number in (first, second))
        if one != other:
            if name in _TEXTS:
                one, other = _without_shared(one, other), _without_shared(other, one)
            elif name in _DIGESTS:
                one, other = one[:8], other[:8]
            texts.append(f"{name} ({one}; {other})")
    return texts


def _compared(number: Number, name: str) -> object:
    """A field as it is compared: a protocol without the remark in brackets that may end it."""
    value = getattr(number, name)
    return _REMARK.sub("", value) if name == "protocol" else value


def _without_shared(text: str, other: str) -> str:
    pieces, others = (whole.replace(";", ",").split(", ") for whole in (text, other))
    return ", ".join(piece for piece in pieces if piece not in others).strip() or text


def _text(value: object) -> str:
    return "none" if value is None else str(value)


def _matches(field: str, value: object, wanted: str) -> bool:
    text = _text(value)
    if field in _TEXTS:
        return wanted.casefold() in text.casefold()
    return text.startswith(wanted) if field in _DIGESTS and wanted else text == wanted

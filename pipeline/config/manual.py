"""Every section and field of a config with its type, default and meaning, as `help` prints them and
`docs/configuration.md` lists them.

Neighbours: the models say all of it themselves, in the docstrings of their classes and fields.
"""

from __future__ import annotations

import difflib
import inspect
import re
import textwrap
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from pipeline.config.fields import is_recorded
from pipeline.config.root import Config
from shards.errors import UserError

WIDTH = 120
_UNBROKEN = re.compile(r"`[^`]{1,80}`|\[[^]]*\]\([^)]*\)")
_SENTENCE_END = re.compile(r"(?<=\.) (?!\d)")
_NO_LIMIT = 10**6
"""Upper limits from here on only refuse slips of the keyboard; the manual leaves them out."""
_OPENING = """\
# Configuration

One YAML file describes one run. Only `name` is required; every other field has a default. On the
command line, write `section.field=value`. `python -m pipeline help SECTION` and
`python -m pipeline help SECTION.FIELD` print the entries of this page.

A finished stage keeps a record of the fields that determine its result. To change one of them, give
the run another `name`. Fields marked *not recorded* say where or how fast a run happens; change
them at any time.

This page is generated from the docstrings in `pipeline/config/`. Write it again with
`python -m pipeline help --markdown > docs/configuration.md`."""


@dataclass(frozen=True)
class FieldEntry:
    """A field: its place such as `train.epochs`, and what the manual says of it."""

    place: str
    type: str
    default: str | None
    """As YAML; None for a required field, an optional one that is null, and a section."""
    is_recorded: bool
    """False for a field that records leave out, of a section that they have."""
    meaning: str

    def lines(self) -> str:
        """A Markdown list item."""
        parts = [self.type]
        if self.default is not None:
            parts.append(f"default `{self.default}`")
        if not self.is_recorded:
            parts.append("*not recorded*")
        name = _name(self.place)
        text = f"- `{name}`: {', '.join(parts)}. {self.meaning}".rstrip()
        return _filled(text, "  ")


@dataclass(frozen=True)
class SectionEntry:
    """A section: its place such as `train.student` (`""`: the file itself), meaning and fields."""

    place: str
    title: str
    is_recorded: bool
    meaning: str
    fields: tuple[FieldEntry, ...]

    def lines(self) -> str:
        """A Markdown section."""
        meaning = self.meaning if self.is_recorded else f"{self.meaning} *Not recorded.*"
        fields = "\n".join(field.lines() for field in self.fields)
        return "\n\n".join([f"## {self.title}", _filled(meaning), fields])


def list_sections() -> list[SectionEntry]:
    """All sections in the order of the file, those inside a section behind it."""
    return list(_walk(Config, "", True))


def page() -> str:
    """The whole of `docs/configuration.md`."""
    file, *sections = list_sections()
    links = ", ".join(f"[{section.title}](#{_anchor(section.title)})" for section in sections)
    opening = "\n\n".join(_filled(_joined(part)) for part in _OPENING.split("\n\n"))
    name = file.fields[0].lines()
    parts = [opening, name, _filled(f"Sections: {links}."), *(s.lines() for s in sections)]
    return "\n\n".join(parts) + "\n"


def _anchor(title: str) -> str:
    """Of a heading, as GitHub makes it."""
    return re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")


def overview() -> str:
    """A line for each section."""
    sections = [section for section in list_sections() if section.place]
    width = max(len(section.title) for section in sections)
    return "\n".join(
        f"{section.title:<{width}}  {_SENTENCE_END.split(section.meaning)[0]}"
        for section in sections
    )


def explain(place: str) -> str:
    """What the manual says of a section or a field.

    Raises:
        UserError: if there is neither under this name.
    """
    place = re.sub(r"^eval\.sets\.\w+", "eval.sets.NAME", place)
    sections = list_sections()
    found = [section.lines() for section in sections if place and section.place == place]
    fields = [field for section in sections for field in section.fields]
    if not found:
        found = [field.lines() for field in fields if field.place == place]
    if not found:
        raise UserError(f"{place}: no such section or field{_near(place, sections)}")
    return "\n\n".join(dict.fromkeys(found))


def _near(place: str, sections: list[SectionEntry]) -> str:
    places = [section.place for section in sections if section.place]
    places += [field.place for section in sections for field in section.fields]
    name = _name(place)
    same = [other for other in places if _name(other) == name]
    near = list(dict.fromkeys(same)) or difflib.get_close_matches(place, places, n=1)
    if not near and (names := difflib.get_close_matches(name, map(_name, places), n=1)):
        near = [other for other in places if _name(other) == names[0]]
    return f"; did you mean {', '.join(near)}?" if near else "; `help` alone lists the sections"


def _walk(model: type[BaseModel], place: str, is_kept: bool) -> Iterator[SectionEntry]:
    """`is_kept`: whether records have this section."""
    entries, inside = [], []
    for name, field in model.model_fields.items():
        field_place = f"{place}.{name}" if place else name
        is_field_kept = is_kept and is_recorded(field)
        sections = list(_sections_of(field.annotation))
        nested = f"{field_place}.NAME" if _is_mapping(field.annotation) else field_place
        inside += [(section, nested, is_field_kept) for section in sections]
        entries.append(
            FieldEntry(
                place=field_place,
                type=f"section `{nested}`" if sections else describe_type(field),
                default=None if sections else _default(field),
                is_recorded=is_field_kept or not is_kept,
                meaning=_joined(field.description),
            )
        )
    entries.sort(key=lambda entry: not entry.place.endswith(".name"))
    meaning = _joined(inspect.getdoc(model))
    yield SectionEntry(place, _title(model, place), is_kept, meaning, tuple(entries))
    for section, nested, is_section_kept in inside:
        yield from _walk(section, nested, is_section_kept)


def _title(model: type[BaseModel], place: str) -> str:
    """The place; of several sections in one place also the `name` that chooses this one."""
    name = model.model_fields.get("name")
    chosen = get_args(name.annotation) if name else ()
    if place.endswith(".method"):
        return f"{place}: {chosen[0] if chosen else 'your own code'}"
    return place


def _sections_of(annotation: Any) -> Iterator[type[BaseModel]]:
    """Models in a field's annotation: one, or all members of a union."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _sections_of(part)


def _is_mapping(annotation: Any) -> bool:
    origin = get_origin(annotation)
    return isinstance(origin, type) and issubclass(origin, Mapping)


def _default(field: FieldInfo) -> str | None:
    default = field.get_default(call_default_factory=True)
    if default is None or default is PydanticUndefined:
        return None
    text = yaml.safe_dump(_plain(default), default_flow_style=True, width=10**6)
    return text.removesuffix("...\n").strip()


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(part) for part in value]
    if isinstance(value, Path):
        is_at_home = Path.home() in value.parents
        return str(Path("~") / value.relative_to(Path.home()) if is_at_home else value)
    return float(f"{value:.4g}") if isinstance(value, float) else value


def describe_type(field: FieldInfo) -> str:
    """A field's type in words, with its limits."""
    parts = get_args(field.annotation)
    if type(None) in parts:
        others = [part for part in parts if part is not type(None)]
        words = " or ".join(_in_words(part, field.metadata) for part in others)
        return f"{words}, optional" if field.default is None else f"{words} or `null`"
    words = _in_words(field.annotation, field.metadata)
    return f"{words}, required" if field.is_required() else words


def _in_words(annotation: Any, limits: list[Any]) -> str:
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _in_words(parts[0], list(parts[1:]))
    if origin is Literal:
        *others, last = (f"`{value}`" for value in parts)
        return f"{', '.join(others)} or {last}" if others else last
    if set(parts) == {Path, str}:
        return "path or URL"
    if origin in (Union, types.UnionType):
        return " or ".join(_in_words(part, limits) for part in parts)
    if origin is tuple:
        items = re.sub("^(integer|number|text)", r"\1s", _in_words(parts[0], []))
        return f"list of {items}" if parts[-1] is Ellipsis else f"list of {len(parts)} {items}"
    if annotation in (int, float):
        return _number(annotation, limits)
    return {bool: "`true` or `false`", str: "text", Path: "path"}.get(annotation, "mapping")


def _number(kind: type, limits: list[Any]) -> str:
    """`integer ≥ 1`, `number from 0 to 1`, …; pydantic keeps a `Field`'s limits in its metadata."""
    found = [part for limit in limits for part in getattr(limit, "metadata", [limit])]
    bounds: dict[type, Any] = {type(limit): limit for limit in found}
    word = "integer" if kind is int else "number"
    low, high = "", ""
    if Gt in bounds:
        low = f"≥ {bounds[Gt].gt + 1}" if kind is int else f"> {bounds[Gt].gt}"
    if Ge in bounds:
        low = f"≥ {bounds[Ge].ge}"
    if Le in bounds and bounds[Le].le < _NO_LIMIT:
        high = f"≤ {bounds[Le].le}"
    if Lt in bounds and bounds[Lt].lt < _NO_LIMIT:
        high = f"< {bounds[Lt].lt}"
    if low.startswith("≥") and high.startswith("≤"):
        return f"{word} from {low[2:]} to {high[2:]}"
    return " ".join([word, *filter(None, [low, "and" if low and high else "", high])])


def _name(place: str) -> str:
    return place.rpartition(".")[2]


def _filled(text: str, indent: str = "") -> str:
    """Lines of at most `WIDTH`, with code and links in one piece."""
    whole = _UNBROKEN.sub(lambda match: match[0].replace(" ", "\0"), text)
    lines = textwrap.fill(
        whole, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
    return lines.replace("\0", " ")


def _joined(text: str | None) -> str:
    return " ".join((text or "").split())

"""What is wrong in a config, as one line: file, field, the rule in plain words, the value.

Neighbour: `file.py` reads the config and raises this.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from pipeline.config.labelled_set import LabelledSetConfig
from pipeline.config.method import METHOD_SECTIONS
from pipeline.config.root import Config

_KINDS = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "string_type": "text",
    "path_type": "a path",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "dict_type": "names with values, such as {{a: 1}}",
    "greater_than_equal": "at least {ge}",
    "less_than_equal": "at most {le}",
}
_TAG = re.compile(
    r"(literal|tuple|list|constrained-\w+|function-\w+)\b.*|\[key\]|int|float|str|bool"
)
"""What pydantic appends to a place: which member of a union it tried."""


def describe_mistake(error: ValidationError, place: str) -> str:
    """The first problem of a config from `place`, and how many other fields have one."""
    problems = error.errors(include_url=False)
    fields = list(dict.fromkeys(map(_field, problems)))
    of_first = [problem for problem in problems if _field(problem) == fields[0]]
    more = f" (and {len(fields) - 1} more)" if len(fields) > 1 else ""
    first = of_first[0]
    if first["type"] == "extra_forbidden":
        return f"{place}: unknown field {fields[0]}{_suggest(first['loc'])}{more}"
    field = f"{fields[0]}: " if fields[0] else ""
    return f"{place}: {field}{_rule(of_first, fields[0])}{more}"


def _field(problem: ErrorDetails) -> str:
    """Where a problem is, as the config has it; a value's place in a list is left out."""
    parts = [part for part in _without_tags(problem["loc"]) if not isinstance(part, int)]
    return ".".join([*map(str, parts), *(["name"] if problem["type"] == "unknown_method" else [])])


def _rule(problems: list[ErrorDetails], field: str) -> str:
    """What the value of one field must be; each member of a union has a problem of its own."""
    first = max(problems, key=lambda problem: len(_without_tags(problem["loc"])))
    kind, value = first["type"], first["input"]
    got = f", got {'nothing' if value is None else repr(value)}"
    if kind == "value_error":
        return first["msg"].removeprefix("Value error, ")
    if kind == "unknown_method":
        return f"{first['msg']}{_near_method(value)}"
    if kind == "model_type":
        return f"is a section; write {field}.FIELD=value{got}"
    if kind == "missing":
        return f"has too few values{got}" if isinstance(value, list) else "is missing; set it"
    if kind in ("too_short", "too_long"):
        bound, count = next(item for item in first["ctx"].items() if item[0].endswith("_length"))
        values = "value" if count == 1 else "values"
        return f"must have at {'least' if bound[:3] == 'min' else 'most'} {count} {values}{got}"
    wanted = dict.fromkeys(_wanted(problem) for problem in problems if problem["input"] is value)
    return f"must be {' or '.join(filter(None, wanted))}{got}"


def _wanted(problem: ErrorDetails) -> str:
    """What a value must be, to follow these two words; empty if this problem follows another."""
    kind, value = problem["type"], problem["input"]
    if kind in ("too_short", "too_long"):  # of a list without the values that are wrong
        return ""
    if kind == "literal_error":
        return str(problem["ctx"]["expected"]).replace("'", "")
    if kind in ("tuple_type", "list_type"):
        return f"a list, such as [{value if isinstance(value, str | int | float) else 'a, b'}]"
    bounds = {
        name: int(bound) if isinstance(bound, float) and bound.is_integer() else bound
        for name, bound in problem.get("ctx", {}).items()
    }
    if kind in _KINDS:
        return _KINDS[kind].format(**bounds)
    return problem["msg"].removeprefix("Input should be ")


def _near_method(value: Any) -> str:
    name = str(value.get("name") if isinstance(value, dict) else value)
    near = difflib.get_close_matches(name, METHOD_SECTIONS.keys() - {"own"}, n=1)
    return f", got {name!r}" + (f"; did you mean train.method.name={near[0]}?" if near else "")


def _without_tags(location: tuple[int | str, ...]) -> list[int | str]:
    """A place as the file has it: pydantic puts the member of a union into it."""
    return [
        part
        for index, part in enumerate(location)
        if not (index and location[index - 1] == "method" and part in METHOD_SECTIONS)
        and not (index and isinstance(part, str) and _TAG.fullmatch(part))
    ]


def _suggest(location: tuple[int | str, ...]) -> str:
    model: type[BaseModel] = Config
    if location[:2] == ("train", "method"):
        owners = [
            name
            for name, section in METHOD_SECTIONS.items()
            if location[-1] in section.model_fields
        ]
        if owners:
            return f"; it belongs to train.method.name={' and '.join(owners)}"
    if location[:2] == ("eval", "sets") and len(location) > 3:
        return _suggest_name(str(location[-1]), LabelledSetConfig, ["eval.sets", ""])
    for part in location[:-1]:
        if part in METHOD_SECTIONS:
            model = METHOD_SECTIONS[str(part)]
            continue
        annotation = model.model_fields[str(part)].annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            model = annotation
        elif part != "method":
            return ""
    return _suggest_name(str(location[-1]), model, [str(part) for part in _without_tags(location)])


def _suggest_name(name: str, model: type[BaseModel], place: Sequence[str]) -> str:
    """One of this place with much the same name, fields of this name in other sections, or one here
    or there with a similar name.
    """
    fields = list(_list_fields(Config))
    found = [field for field in fields if field.rpartition(".")[2] == name]
    cutoff = 0.8 if found else 0.6
    if near := difflib.get_close_matches(name, model.model_fields, n=1, cutoff=cutoff):
        also = f" There is also {', '.join(found)}" if found else ""
        return f"; did you mean {near[0]}?{also}"
    if not found:
        names = {field.rpartition(".")[2] for field in fields}
        near = difflib.get_close_matches(name, names, n=1, cutoff=0.8)
        found = [field for field in fields if field.rpartition(".")[2] in near]
    if not found:
        return f"; known here: {', '.join(model.model_fields)}"
    section = place[0] if len(place) > 1 else "train"
    first, *others = sorted(found, key=lambda field: not field.startswith(f"{section}."))
    return f"; did you mean {first}?" + (f" There is also {', '.join(others)}" if others else "")


def _list_fields(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Every field of a config, `section.field`; of `train.method` those of all methods."""
    seen: set[str] = set()
    for name, field in model.model_fields.items():
        yield prefix + name
        sections = METHOD_SECTIONS.values() if name == "method" else [field.annotation]
        for section in sections:
            if isinstance(section, type) and issubclass(section, BaseModel):
                nested = set(_list_fields(section, f"{prefix}{name}."))
                yield from sorted(nested - seen)
                seen |= nested

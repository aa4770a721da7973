"""YAML and overrides -> `Config`, with one-line errors that name the field.

Neighbours: the models in `root.py`; the command line is the caller.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from pipeline.config.labelled_set import LabelledSetConfig
from pipeline.config.method import METHOD_SECTIONS
from pipeline.config.paths import PathsConfig
from pipeline.config.root import Config
from shards.errors import UserError


class _Loader(yaml.SafeLoader):
    """With the booleans of YAML 1.2: `off`, `on`, `yes` and `no` are words, as
    `hardware.compile=off` has them; a field that is a boolean takes them all the same.
    """


_BOOL = "tag:yaml.org,2002:bool"
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != _BOOL]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    _BOOL, re.compile(r"(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)


def load_config(path: Path, changes: Sequence[str] = ()) -> Config:
    """Read `path` and apply changes, in order: `section.field=value`, whose values are YAML, or
    another file such as `configs/methods/vicreg-real.yaml`, whose fields replace those of `path`.

    A run with such a file has its name appended, and distils the teacher of the run without it,
    trained there if need be, unless a config names one or a change says null: then it trains its
    own.

    Raises:
        UserError: naming the field or file, for a missing or malformed file, an unknown field, a
            wrong type or an impossible combination.
    """
    return make_config(_read(path), changes, path)


def make_config(data: dict[str, Any], changes: Sequence[str], origin: Path) -> Config:
    """`load_config` of what has been read from `origin` already."""
    files = [Path(change) for change in changes if is_file(change)]
    name = data.get("name")
    if files:
        _forget_no_teacher(data)
    for change in changes:
        if is_file(change):
            _merge(data, _read(Path(change)))
        else:
            _apply_override(data, change)
    if files:
        _take_teacher_of(data, str(name))
        if data.get("name") == name:
            data["name"] = "-".join([str(name), *(file.stem for file in files)])
    place = " with ".join(map(str, [origin, *files]))
    _refuse_moved(data, place)
    try:
        return Config.model_validate(data)
    except ValidationError as error:
        raise UserError(_describe(error, place)) from None


def is_file(change: str) -> bool:
    """Whether a change is a file to be laid over, and no override."""
    return "=" not in change and change.endswith((".yaml", ".yml"))


def _read(path: Path) -> dict[str, Any]:
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; the configs that ship are in configs/") from None
    except (yaml.YAMLError, ValueError, AttributeError, RecursionError, OSError) as error:
        raise UserError(f"{path}: cannot be read as YAML: {' '.join(str(error).split())}") from None
    if not isinstance(data, dict):
        raise UserError(f"{path}: expected sections such as 'train:', found {type(data).__name__}")
    return data


def _merge(data: dict[str, Any], changes: dict[str, Any]) -> None:
    """Fields of `changes` replace those of `data`; a section with another `name` as a whole."""
    for field, value in changes.items():
        old = data.get(field)
        is_other = (
            isinstance(value, dict)
            and isinstance(old, dict)
            and (value.get("name", old.get("name")) != old.get("name"))
        )
        if isinstance(value, dict) and isinstance(old, dict) and not is_other:
            _merge(old, value)
        else:
            data[field] = value


def _forget_no_teacher(data: dict[str, Any]) -> None:
    """A null of the file itself is not one of its changes."""
    teacher = data.get("teacher")
    if isinstance(teacher, dict) and teacher.get("checkpoint", "") is None:
        del teacher["checkpoint"]


def _take_teacher_of(data: dict[str, Any], name: str) -> None:
    """Distil the teacher of run `name` where nothing is said of one."""
    teacher, paths = (data.get(key) or {} for key in ("teacher", "paths"))
    if isinstance(teacher, dict) and isinstance(paths, dict) and "checkpoint" not in teacher:
        runs = Path(str(paths.get("runs", PathsConfig().runs)))
        shared = {"checkpoint": str(runs / name / "teacher"), "train_if_missing": True}
        data["teacher"] = shared | teacher


def _refuse_moved(data: dict[str, Any], place: str) -> None:
    ray = data.get("ray")
    for field in ("device", "compile"):
        if isinstance(ray, dict) and field in ray:
            new = f"hardware.{field}"
            raise UserError(f"{place}: ray.{field}: is now {new}; write {new}={ray[field]}")


def _apply_override(data: dict[str, Any], override: str) -> None:
    name, equals, text = override.partition("=")
    if not equals or not name:
        raise UserError(
            f"{override}: overrides look like section.field=value, files of overrides end in .yaml"
        )
    *parents, leaf = name.split(".")
    for depth, parent in enumerate(parents):
        child = data.setdefault(parent, {})
        if child is None:
            child = data[parent] = {}
        if isinstance(child, str) and parents[:depth] == ["eval", "sets"]:
            child = data[parent] = {"path": child}
        if not isinstance(child, dict):
            raise UserError(f"{name}: {parent} is a value, not a section")
        data = child
    try:
        data[leaf] = yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError, AttributeError, RecursionError):
        raise UserError(f"{name}: value {text!r} is not valid YAML; quote it") from None


def _describe(error: ValidationError, place: str) -> str:
    """First problem as one line: file, section.field, what is wrong, and a near miss if any."""
    first = error.errors(include_url=False)[0]
    location = _without_tags(first["loc"])
    field = ".".join(map(str, location))
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    if first["type"] == "extra_forbidden":
        return f"{place}: unknown field {field}{_suggest(first['loc'])}{more}"
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "model_type":
        message = f"is a section; write {field}.FIELD=value"
    value = "" if first["type"] in ("value_error", "missing") else f", got {first['input']!r}"
    return f"{place}: {f'{field}: ' if field else ''}{message}{value}{more}"


def _without_tags(location: tuple[int | str, ...]) -> list[int | str]:
    """A place as the file has it: pydantic puts the member of a union into it."""
    return [
        part
        for index, part in enumerate(location)
        if not (index and location[index - 1] == "method" and part in METHOD_SECTIONS)
        and not str(part).startswith(("literal[", "tuple[", "[key]"))
    ]


def _suggest(location: tuple[int | str, ...]) -> str:
    model: type[BaseModel] = Config
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

"""YAML and overrides -> `Config`, with one-line errors that name the field.

Neighbours: the models in `root.py`, `mistakes.py` for the errors; the command line is the caller.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from pipeline.config.mistakes import describe_mistake
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
        raise UserError(describe_mistake(error, place)) from None


def is_file(change: str) -> bool:
    """Whether a change is a file to be laid over, and no override."""
    return "=" not in change and change.endswith((".yaml", ".yml"))


def _read(path: Path) -> dict[str, Any]:
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; the configs that ship are in configs/") from None
    except IsADirectoryError:
        raise UserError(f"{path}: is a folder; name a YAML file") from None
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
            value = ".".join(parents[: depth + 1])
            raise UserError(f"{name}: {value} is a value, not a section; set it as {value}=…")
        data = child
    try:
        data[leaf] = yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError, AttributeError, RecursionError):
        raise UserError(
            f"{name}: {text!r} is not valid YAML; write it as in a config, such as 3 or [a, b]"
        ) from None

"""What a stage did: resolved config, fingerprint, inputs, outputs, versions. The file that marks a
stage done.

The fingerprint is a hash of everything that determines the output: the stage's config section and
the digests of its inputs. Neighbours: every `stage.py` asks `is_complete` first and calls
`write_record` last.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError

from shards.atomic import write_atomic
from shards.errors import UserError

RECORD_FILE = "record.json"
BEGUN_FILE = "begun.json"
"""The recipe of a stage that saves what it has on its way."""
_PACKAGES = (
    "torch",
    "torchvision",
    "numpy",
    "ray",
    "webdataset",
    "pyarrow",
    "scikit-learn",
    "timm",
    "faiss-gpu",
    "faiss-cpu",
)


@dataclass(frozen=True)
class Recipe:
    """What determines a stage's output: its config section and the digests of its inputs, by
    name.
    """

    stage: str
    config: dict[str, Any]
    inputs: dict[str, str]

    @classmethod
    def of(cls, stage: str, config: BaseModel, inputs: dict[str, str]) -> Recipe:
        """Recipe of `stage` under `config`; fields marked `exclude` are left out."""
        return cls(stage, config.model_dump(mode="json"), inputs)

    def without(self, *fields: str) -> Recipe:
        """The same recipe less some top-level fields of the config."""
        config = {name: value for name, value in self.config.items() if name not in fields}
        return Recipe(self.stage, config, self.inputs)

    @property
    def fingerprint(self) -> str:
        """64 hex digits."""
        text = json.dumps([self.stage, self.config, self.inputs], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Record:
    """A finished stage."""

    stage: str
    fingerprint: str
    config: dict[str, Any]
    inputs: dict[str, str]
    outputs: dict[str, Any]
    commit: str | None
    versions: dict[str, str]
    created_at: str


def write_record(folder: Path, recipe: Recipe, outputs: dict[str, Any]) -> Record:
    """Mark the stage of `recipe` done in `folder`; call it after its outputs are in place."""
    record = Record(
        recipe.stage,
        recipe.fingerprint,
        recipe.config,
        recipe.inputs,
        outputs,
        commit=current_commit(),
        versions=installed_versions(),
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    write_atomic(folder / RECORD_FILE, json.dumps(asdict(record), indent=2) + "\n")
    return record


def read_record(folder: Path) -> Record | None:
    """The record in `folder`, None if the stage has not finished there.

    Raises:
        UserError: for a damaged record.
    """
    path = folder / RECORD_FILE
    try:
        return TypeAdapter(Record).validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError:
        raise UserError(f"{path}: damaged; delete {folder} and run the stage again") from None


def begin(folder: Path, recipe: Recipe, state: str) -> None:
    """Leave in `folder` which recipe its stage follows, while the file `state` is its progress.

    Raises:
        UserError: if there is progress of another recipe, naming the fields that differ.
    """
    path = folder / BEGUN_FILE
    if path.exists() and (folder / state).exists():
        found = TypeAdapter(Recipe).validate_json(path.read_bytes())
        if found.fingerprint != recipe.fingerprint:
            raise UserError(
                f"{folder}: begun with {describe_difference(found, recipe)}; take another run with "
                "name=…, or delete that folder"
            )
    write_atomic(path, json.dumps(asdict(recipe), indent=2) + "\n")


def find_complete(folder: Path, recipe: Recipe) -> Record | None:
    """The record in `folder` if it is of `recipe`, None if there is none.

    Raises:
        UserError: if the folder holds the result of another recipe, naming the fields that differ.
    """
    record = read_record(folder)
    if record is None or record.fingerprint == recipe.fingerprint:
        return record
    found = Recipe(record.stage, record.config, record.inputs)
    raise UserError(
        f"{folder}: made with {describe_difference(found, recipe)}; take another run with name=…, "
        "or delete that folder"
    )


def is_intact(path: Path, record: Record | None) -> bool:
    """Whether `record`'s output `path` is there with the digest recorded under its file name."""
    return (
        record is not None and path.exists() and file_digest(path) == record.outputs.get(path.name)
    )


def require_record(folder: Path, stage: str, config: BaseModel | None = None) -> Record:
    """The record that an earlier `stage` left in `folder`, made under `config` where that is given.

    Raises:
        UserError: if the stage has not run, or ran under another config; both name the command to
            type.
    """
    record = read_record(folder)
    if record is None:
        raise UserError(
            f"{folder}: the {stage} stage has not finished yet; run `make {stage}` first"
        )
    if config is not None:
        wanted = Recipe.of(stage, config, record.inputs)
        found = Recipe(stage, record.config, record.inputs)
        if found.config != wanted.config:
            raise UserError(
                f"{folder}: made with {describe_difference(found, wanted)}; run `make {stage}` "
                "with the same settings"
            )
    return record


def describe_difference(found: Recipe, wanted: Recipe) -> str:
    """Fields that differ, as `section.field=old (now new)`; digests are shortened."""
    return ", ".join(list_differences(found, wanted))


def list_differences(found: Recipe, wanted: Recipe) -> list[str]:
    """One text for each field that differs."""
    before, after = _flatten(found), _flatten(wanted)
    names = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    return [
        f"{name}={_short(before.get(name))} (now {_short(after.get(name))})"
        for name in sorted(names)
    ]


def file_digest(path: Path) -> str:
    """SHA-256 of a file, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def files_digest(root: Path, files: Iterable[Path]) -> str:
    """SHA-256 over names below `root`, sizes and modification times of `files`, which are there:
    cheap enough to ask every time.
    """
    lines = [
        f"{file.relative_to(root)} {(stat := file.stat()).st_size} {stat.st_mtime_ns}"
        for file in files
    ]
    return hashlib.sha256(os.fsencode("\n".join(lines))).hexdigest()


@cache
def current_commit() -> str | None:
    """Commit of the checkout that this process runs; of a copy outside git what the environment
    variable SOURCE_COMMIT says, or None.

    `+changes` is added if tracked files differ from it. Asked first when the command line starts:
    the checkout may move on while a stage runs.
    """
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return os.environ.get("SOURCE_COMMIT")
    try:
        command = [
            "git",
            "-C",
            str(root),
            "describe",
            "--always",
            "--abbrev=40",
            "--dirty=+changes",
            "--exclude=*",
        ]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def installed_versions() -> dict[str, str]:
    """Versions of Python and of the packages that shape results."""
    versions = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _flatten(recipe: Recipe) -> dict[str, Any]:
    flat: dict[str, Any] = {f"input {name}": digest for name, digest in recipe.inputs.items()}

    def walk(prefix: str, value: Any) -> None:
        if isinstance(value, dict):
            for key, child in value.items():
                walk(f"{prefix}.{key}", child)
        else:
            flat[prefix] = value

    walk(recipe.stage, recipe.config)
    return flat


def _short(value: Any) -> str:
    text = str(value)
    return text[:12] if len(text) == 64 else text

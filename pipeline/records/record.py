"""What a stage did: its spec, its product, commit and versions. The file that marks a stage done.

Neighbours: every `stage.py` asks `find_complete` first and calls `write_record` last;
`products.py` has what stages hand on.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import TypeAdapter, ValidationError

from pipeline.config.fields import Section
from pipeline.records.environment import current_commit, installed_versions
from pipeline.records.spec import Spec, describe_difference
from shards.atomic import write_atomic
from shards.errors import UserError

RECORD_FILE = "record.json"
BEGUN_FILE = "begun.json"
"""The spec of a stage that saves what it has on its way."""
_REPEATABLE = ("real", "generate")
"""Stages that make another product beside an earlier one."""

P = TypeVar("P")


@dataclass(frozen=True)
class Record(Generic[P]):
    """A finished stage, and its product."""

    stage: str
    fingerprint: str
    config: dict[str, Any]
    inputs: dict[str, str]
    outputs: P
    commit: str | None
    versions: dict[str, str]
    created_at: str

    @property
    def spec(self) -> Spec:
        """What determined the product."""
        return Spec(self.stage, self.config, self.inputs)


@cache
def _adapter(product: Any) -> TypeAdapter[Any]:
    return TypeAdapter(Record[product])


def write_record(folder: Path, spec: Spec, product: P) -> Record[P]:
    """Mark the stage of `spec` done in `folder`; call it after its files are in place."""
    record = Record(
        spec.stage,
        spec.fingerprint,
        spec.config,
        spec.inputs,
        product,
        commit=current_commit(),
        versions=installed_versions(),
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    kind: Any = dict[str, str] if isinstance(product, dict) else type(product)
    content = _adapter(kind).dump_json(record, indent=2, by_alias=True)
    write_atomic(folder / RECORD_FILE, content + b"\n")
    return record


def read_record(folder: Path, product: type[P]) -> Record[P] | None:
    """The record in `folder`, None if the stage has not finished there.

    Raises:
        UserError: for a damaged record.
    """
    path = folder / RECORD_FILE
    try:
        kind: Any = product
        record: Record[P] = _adapter(kind).validate_json(path.read_bytes())
        return record
    except FileNotFoundError:
        return None
    except ValidationError:
        raise UserError(f"{path}: damaged; delete {folder} and run the stage again") from None


def begin(folder: Path, spec: Spec, state: str) -> None:
    """Leave in `folder` which spec its stage follows, while the file `state` is its progress.

    Raises:
        UserError: if there is progress of another spec, naming the fields that differ.
    """
    path = folder / BEGUN_FILE
    if path.exists() and (folder / state).exists():
        try:
            found = TypeAdapter(Spec).validate_json(path.read_bytes())
        except ValidationError:
            raise UserError(f"{path}: damaged; delete it, and the same command goes on") from None
        if found.fingerprint != spec.fingerprint:
            raise UserError(_refusal(folder, "begun", found, spec))
    write_atomic(path, json.dumps(asdict(spec), indent=2) + "\n")


def find_complete(folder: Path, spec: Spec, product: type[P]) -> Record[P] | None:
    """The record in `folder` if it is of `spec`, None if there is none.

    Raises:
        UserError: if the folder holds the product of another spec, naming the fields that differ.
    """
    record = read_record(folder, product)
    if record is None or record.fingerprint == spec.fingerprint:
        return record
    raise UserError(_refusal(folder, "made", record.spec, spec))


def require_record(
    folder: Path, stage: str, product: type[P], config: Section | None = None
) -> Record[P]:
    """The record that an earlier `stage` left in `folder`, made under `config` where that is given.

    Raises:
        UserError: if the stage has not run, or ran under another config; both name what to do.
    """
    record = read_record(folder, product)
    if record is None:
        raise UserError(
            f"{folder}: the {stage} stage has not finished yet; run `make {stage}` first"
        )
    if config is not None:
        wanted = Spec.of(stage, config, record.inputs)
        if record.config != wanted.config and stage in _REPEATABLE:
            difference = describe_difference(record.spec, wanted)
            raise UserError(f"{folder}: made with {difference}; run `make {stage}` first")
        if record.config != wanted.config:
            raise UserError(_refusal(folder, "made", record.spec, wanted))
    return record


def _refusal(folder: Path, how: str, found: Spec, wanted: Spec) -> str:
    problem = f"{folder}: {how} with {describe_difference(found, wanted)}"
    if found.stage != "train" or found.without("epochs") != wanted.without("epochs"):
        remedy = "change that back, take another run with name=…, or delete that folder"
        return f"{problem}; {remedy}"
    before, after = (spec.config["epochs"] for spec in (found, wanted))
    if how == "begun":
        return (
            f"{problem}; to finish it, run `make train` with train.epochs={before}, which its "
            f"learning rates follow; to train for {after} anew, add name=…"
        )
    return (
        f"{problem}; it is finished: to train its student further, run `make train` with name=… "
        f"train.init={folder.parent.name} added; to train for {after} anew, add name=… alone"
    )

"""What is in a store: pools of synthetic samples, real images, and which runs use them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.generate.plan import TEACHER_POOLS, read_origin
from pipeline.real.request import REAL_SHARDS
from pipeline.records.products import RECIPE_FILE, Pool, RealImages
from pipeline.records.record import RECORD_FILE, read_record
from shards.claims import CLAIMS_FOLDER, SILENT_S, is_in_use
from shards.errors import UserError
from shards.manifest import MANIFEST_FOLDER, Manifest, read_manifest
from shards.storage import Folder

KINDS = {TEACHER_POOLS: "synthetic", REAL_SHARDS: "real"}
_STAGES = {TEACHER_POOLS: "generate", REAL_SHARDS: "real"}
_PRODUCTS: dict[str, type[Pool | RealImages]] = {TEACHER_POOLS: Pool, REAL_SHARDS: RealImages}


@dataclass(frozen=True)
class Entry:
    """One recipe of the store: a pool's images and sets of features, or real images' splits."""

    place: str
    """`teacher` or `real`: the folder it lies in."""
    key: str
    folder: Folder
    recipe: dict[str, Any] | None
    """Content of `recipe.json`; None if that is missing or damaged."""
    sets: dict[str, Manifest]
    problems: tuple[str, ...]
    """Why a set cannot be read, one line each."""

    @property
    def kind(self) -> str:
        """`synthetic` or `real`."""
        return KINDS[self.place]

    @property
    def num_samples(self) -> int:
        """Samples with images: of a pool its length, of real images all splits together."""
        if self.place == TEACHER_POOLS:
            return max((manifest.num_samples for manifest in self.sets.values()), default=0)
        return sum(manifest.num_samples for manifest in self.sets.values())

    @property
    def num_bytes(self) -> int:
        """Bytes of all listed shards; of an entry that lists none, of what else is there."""
        if not self.sets:
            return self.folder.total_bytes()
        return sum(shard.num_bytes for shards in self.sets.values() for shard in shards.shards)

    @property
    def written_at(self) -> float | None:
        """Seconds since the epoch of the newest shard."""
        times = [shard.written_at for shards in self.sets.values() for shard in shards.shards]
        return max(times, default=None)

    @property
    def source(self) -> str:
        """Where its images come from, for readers: the teacher's folder, or the real source."""
        recipe = self.recipe or {}
        if self.place == TEACHER_POOLS:
            return str(recipe.get("teacher", "?"))
        config = recipe.get("config") or {}
        return str(config.get("path") or config.get("source") or "?")


def list_entries(store: Folder) -> Iterator[Entry]:
    """Everything in `store`, pools first."""
    for place in KINDS:
        for key in (store / place).list_folders():
            yield _read_entry(store / place / key, place)


def find_entry(store: Folder, key: str) -> Entry:
    """The entry whose key begins with `key`.

    Raises:
        UserError: if there is none, or more than one.
    """
    found = [
        (place, name)
        for place in KINDS
        for name in (store / place).list_folders()
        if name.startswith(key)
    ]
    if len(found) != 1:
        many = f"fits {', '.join(name for _, name in found)}" if found else "is none of its keys"
        raise UserError(f"{store}: {key} {many}; see `python -m pipeline shards list`")
    place, name = found[0]
    return _read_entry(store / place / name, place)


def find_references(runs: Iterable[Path]) -> dict[tuple[str, str], list[str]]:
    """(place, key) -> folders of the runs whose records refer to it. A run is whatever has such a
    record, however deep it lies.

    Raises:
        UserError: for a damaged record: what it refers to is not known, so nothing can be
            collected.
    """
    references: dict[tuple[str, str], list[str]] = {}
    for folder in runs:
        for place, product in _PRODUCTS.items():
            for path in sorted(folder.rglob(f"{_STAGES[place]}/{RECORD_FILE}")):
                record = read_record(path.parent, product)
                if record is not None:
                    key = record.outputs.folder.rstrip("/").rpartition("/")[2]
                    references.setdefault((place, key), []).append(str(path.parent.parent))
    return references


def delete(entry: Entry) -> None:
    """Delete an entry: first its manifests, so that what is left of it, if this is cut short, is
    not taken for shards.

    Raises:
        UserError: if a run is at work on it.
    """
    if is_in_use(entry.folder, SILENT_S + 1):
        raise UserError(
            f"{entry.folder / CLAIMS_FOLDER}: a run is at work here; wait for it, or stop it"
        )
    for name in entry.folder.list_folders():
        manifest = entry.folder / name / MANIFEST_FOLDER
        if manifest.list_files():
            manifest.remove_all()
    entry.folder.remove_all()


def _read_entry(folder: Folder, place: str) -> Entry:
    sets: dict[str, Manifest] = {}
    problems = []
    try:
        recipe = json.loads(folder.read(RECIPE_FILE))
        if not isinstance(recipe, dict):
            raise ValueError("not an object")
    except FileNotFoundError:
        recipe = None
        problems.append(f"{folder}/{RECIPE_FILE}: is missing")
    except ValueError as error:
        recipe = None
        problems.append(f"{folder}/{RECIPE_FILE}: damaged ({error})")
    if place == TEACHER_POOLS and recipe is not None:
        origin = read_origin(folder)
        if origin is None or origin.recipe.key != folder.name:
            problems.append(f"{folder}/{RECIPE_FILE}: not the recipe of this key")
    unreadable = []
    for name in folder.list_folders():
        try:
            manifest = read_manifest(folder / name)
        except UserError as error:
            unreadable.append(str(error))
            continue
        if manifest is not None:
            sets[name] = manifest
    if not sets and not unreadable:
        problems.append(
            f"{folder}: lists no shards: just begun, half deleted, or of an older version"
        )
    return Entry(place, folder.name, folder, recipe, sets, (*problems, *unreadable))

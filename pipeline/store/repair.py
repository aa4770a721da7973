"""Checks a pool against its manifest and its teacher, and renders damaged shards again: they are
pure functions of recipe and index.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config.ray import RayConfig
from pipeline.generate.plan import Origin, Plan, PoolRecipe, ShardSet, read_origin
from pipeline.generate.stage import fill
from pipeline.records.digests import code_digest
from pipeline.store.inventory import Entry
from pipeline.teacher.description import GENERATOR_FILE, Teacher, read_teacher_info
from shards.cache import Cache
from shards.codecs import decode_image, encode_image
from shards.errors import UserError
from shards.manifest import ShardInfo, read_manifest
from shards.reader import ShardReader
from shards.verify import inspect_shards

AUDIT_BATCH = 16
IMAGE_TOLERANCE = {"npy": 1.0, "png": 1.0, "webp": 16.0, "jpg": 16.0}
"""Largest difference of a pixel after the codec, in levels of 255."""
FEATURE_TOLERANCE = {"float32": 2e-3, "float16": 2e-2, "bfloat16": 6e-2}
"""Largest difference of a feature, relative to the root mean square of the sample's, by the
teacher's precision: rounding to float16 and another order of sums."""


@dataclass(frozen=True)
class Damage:
    """A shard that is not what the manifest says."""

    set_name: str
    shard: ShardInfo
    problem: str

    def __str__(self) -> str:
        return f"{self.set_name}/{self.shard.name}: {self.problem}"


def check(entry: Entry) -> Iterator[Damage | None]:
    """Look at every shard of `entry`, one after the other; None for a sound one."""
    for name, manifest in entry.sets.items():
        for finding in inspect_shards(entry.folder / name, manifest):
            yield (
                None if finding.problem is None else Damage(name, finding.shard, finding.problem)
            )


def find_gaps(entry: Entry) -> list[str]:
    """Sets whose manifest has a hole: samples after it are there but cannot be reached."""
    gaps = []
    for name, manifest in entry.sets.items():
        listed = sum(shard.num_samples for shard in manifest.shards)
        if listed > manifest.num_samples:
            gaps.append(
                f"{name}: sample {manifest.num_samples} is in no shard, "
                f"{listed - manifest.num_samples} after it are"
            )
    return gaps


def open_origin(entry: Entry, teacher: Path | None) -> tuple[Origin, Teacher]:
    """Recipe of a pool, and the teacher it was rendered with, found in `teacher` if that is given.

    Raises:
        UserError: if the recipe is gone, or the teacher is not there or another one.
    """
    origin = read_origin(entry.folder)
    if origin is None:
        raise UserError(
            f"{entry.folder}: its recipe.json cannot be read; run `make generate` with the config "
            "of this pool, which writes it again"
        )
    if origin.recipe.key != entry.key:
        raise UserError(
            f"{entry.folder}: its recipe.json is of another pool ({origin.recipe.key}); run "
            "`make generate` with the config of this pool, which writes it again"
        )
    folder = Path(origin.teacher) if teacher is None else teacher
    try:
        info = read_teacher_info(folder)
    except UserError as error:
        raise UserError(f"{error}; name the teacher's folder with --teacher") from None
    if info.digests.get(GENERATOR_FILE) != origin.recipe.generator_sha256:
        raise UserError(
            f"{folder}: not the teacher of this pool (generator sha256 "
            f"{origin.recipe.generator_sha256[:12]}…); name its folder with --teacher"
        )
    if (
        origin.factory is not None
        and code_digest(origin.factory, "teacher.factory") != origin.recipe.code_sha256
    ):
        raise UserError(
            f"{origin.factory}: its code is no longer that of this pool (sha256 "
            f"{str(origin.recipe.code_sha256)[:12]}…); bring that back to render the same samples"
        )
    return origin, Teacher(folder, origin.factory)


@dataclass(frozen=True)
class Repaired:
    """How many shards were rendered again, and which of them to other bytes than before."""

    num_shards: int
    changed: list[str]


def repair(
    entry: Entry, damages: list[Damage], origin: Origin, teacher: Teacher, ray: RayConfig
) -> Repaired:
    """Render the damaged shards of a pool again, and no other."""
    recipe = origin.recipe
    plan = _plan(entry, recipe).refreshed()  # refuses foreign rows, before anything is deleted
    per_shard = recipe.samples_per_shard
    missing: dict[int, tuple[str, ...]] = {}
    for damage in damages:
        index = damage.shard.start_index // per_shard
        missing[index] = (*missing.get(index, ()), damage.set_name)
        (entry.folder / damage.set_name).remove(damage.shard.name)
    fill(plan, teacher, ray, missing)
    changed = []
    for damage in damages:
        manifest = read_manifest(entry.folder / damage.set_name)
        assert manifest is not None
        (row,) = (row for row in manifest.shards if row.name == damage.shard.name)
        if row.sha256 != damage.shard.sha256:
            changed.append(f"{damage.set_name}/{damage.shard.name}")
    return Repaired(len(damages), changed)


def _plan(entry: Entry, recipe: PoolRecipe) -> Plan:
    sets = tuple(ShardSet(name, manifest.schema, {}) for name, manifest in entry.sets.items())
    return Plan(recipe, entry.folder, sets, 0, ())


@dataclass(frozen=True)
class Audit:
    """Stored against rendered values of one column."""

    column: str
    num_samples: int
    difference: float
    """Largest, in the unit of `tolerance`."""
    tolerance: float
    unit: str
    failed: list[int]
    """Samples beyond the tolerance."""


def audit(
    entry: Entry, origin: Origin, teacher: Teacher, num_samples: int, cache: Cache, device: str
) -> list[Audit]:
    """Render `num_samples` random samples, others every time, and compare with what is stored."""
    from pipeline.engine.device import choose_device
    from pipeline.generate.batch import render_batch
    from pipeline.teacher.checkpoint import load_renderer

    recipe = origin.recipe
    if not entry.sets:
        raise UserError(f"{entry.folder}: lists no shards to audit")
    readers = {
        name: ShardReader(entry.folder / name, remedy="repair it first", cache=cache)
        for name in entry.sets
    }
    available = min(map(len, readers.values()))
    rows = np.random.default_rng().permutation(available)[:num_samples]
    generator = load_renderer(teacher, choose_device(device), recipe.precision)
    schemas = {name: reader.schema for name, reader in readers.items()}
    differences: dict[tuple[str, str], list[np.ndarray]] = {}
    for start in range(0, len(rows), AUDIT_BATCH):
        batch = rows[start : start + AUDIT_BATCH]
        rendered = render_batch(generator, recipe, schemas, batch)
        for name, columns in rendered.items():
            for column, values in columns.items():
                if column != "meta":
                    spec = schemas[name].column(column)
                    if spec.is_encoded:
                        values = np.stack(
                            [decode_image(encode_image(v, spec), spec) for v in values]
                        )
                    stored = readers[name].gather(column, batch)
                    measured = _differences(stored, values, is_image=column == "image")
                    differences.setdefault((name, column), []).append(measured)
    return [
        _judge(f"{name}/{column}", np.concatenate(parts), rows, recipe)
        for (name, column), parts in differences.items()
    ]


def _differences(stored: np.ndarray, rendered: np.ndarray, *, is_image: bool) -> np.ndarray:
    """Largest difference of each sample: of an image in levels, of features relative to their root
    mean square; [n].
    """
    axes = tuple(range(1, stored.ndim))
    expected: np.ndarray[Any, np.dtype[np.float64]] = rendered.astype(np.float64)
    largest: np.ndarray = np.abs(stored.astype(np.float64) - expected).max(axes)
    if is_image:
        return largest
    scale: np.ndarray = np.sqrt((expected**2).mean(axes))
    return np.asarray(largest / np.maximum(scale, 1e-12))


def _judge(column: str, measured: np.ndarray, rows: np.ndarray, recipe: PoolRecipe) -> Audit:
    is_image = column.endswith("/image")
    tolerance = (
        IMAGE_TOLERANCE[recipe.image_codec] if is_image else FEATURE_TOLERANCE[recipe.precision]
    )
    bad = ~(measured <= tolerance)  # so that a value that is no number fails
    return Audit(
        column,
        len(rows),
        float(measured.max()),
        tolerance,
        "levels of 255" if is_image else "of the sample's root mean square",
        sorted(int(row) for row in rows[bad]),
    )

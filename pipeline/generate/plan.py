"""Which shards a request needs and which exist. Imports neither torch nor Ray.

The pool of a recipe is endless: shard *k* holds samples k·n … (k+1)·n - 1, always whole, and a
request for m samples needs the first ⌈m/n⌉ shards of the images and of every set of features that
it uses. Only shards in a manifest count, so an interrupted run leaves nothing to clean up.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError

from pipeline.config.generate import GenerateConfig
from pipeline.records.digests import code_digest
from pipeline.records.products import RECIPE_FILE
from pipeline.teacher.description import GENERATOR_FILE, Sampling, Teacher, TeacherInfo
from shards.errors import UserError
from shards.manifest import MANIFEST_FOLDER, Manifest, ShardInfo, read_manifest, shard_name
from shards.pool import IMAGES, read_feature_sets
from shards.schema import (
    SCHEMA_VERSION,
    Codec,
    Schema,
    feature_schema,
    feature_set_name,
    synthetic_schema,
)
from shards.storage import Folder

TEACHER_POOLS = "teacher"


@dataclass(frozen=True)
class PoolRecipe:
    """Everything that determines the samples of a pool; its hash is the cache key. Which features
    are stored of them is not in it: each set of features has a name of its own, after its content.
    """

    generator_sha256: str
    architecture: dict[str, Any]
    seed: int
    truncation_psi: float
    truncation_cutoff: int | None
    noise: str
    samples_per_shard: int
    render_batch: int
    precision: str = "float32"
    code_sha256: str | None = None
    """Of the source file of one's own module; None for the families that come with the project."""
    image_codec: Codec = "npy"
    image_quality: int | None = None
    classes: tuple[int, ...] | None = None
    """Classes that are drawn, if not all of them."""
    schema_version: int = SCHEMA_VERSION

    @property
    def sampling(self) -> Sampling:
        """Which samples of the teacher they are."""
        return Sampling(
            self.seed, self.noise, self.truncation_psi, self.truncation_cutoff, self.classes
        )

    @property
    def key(self) -> str:
        """16 hex digits naming the pool in the store."""
        fields = asdict(self)
        if self.classes is None:  # pools from before there was the field have no other name
            del fields["classes"]
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Origin:
    """`recipe.json` of a pool: its recipe, and where the teacher was when it was last rendered."""

    recipe: PoolRecipe
    teacher: str
    factory: str | None

    @classmethod
    def of(cls, recipe: PoolRecipe, teacher: Teacher) -> Origin:
        """That of a pool which `teacher` renders."""
        return cls(recipe, str(teacher.folder.absolute()), teacher.factory)


@dataclass(frozen=True)
class ShardSet:
    """Images, or some features, of a pool: what is in the manifest and whole, by shard index."""

    name: str
    schema: Schema
    existing: dict[int, ShardInfo]


@dataclass(frozen=True)
class Plan:
    """A request against what is there."""

    recipe: PoolRecipe
    folder: Folder
    sets: tuple[ShardSet, ...]
    num_shards: int
    features: tuple[str, ...]
    """Names of the features asked for, in order."""

    @property
    def feature_sets(self) -> list[str]:
        """Names of the sets that hold them."""
        return [shards.name for shards in self.sets if shards.name != IMAGES]

    @property
    def missing(self) -> dict[int, tuple[str, ...]]:
        """Index of each shard to render -> names of the sets that lack it."""
        lacking = {
            index: tuple(shards.name for shards in self.sets if index not in shards.existing)
            for index in range(self.num_shards)
        }
        return {index: names for index, names in lacking.items() if names}

    def refreshed(self) -> Plan:
        """The same request against what is there now."""
        sets = tuple(_read_set(self.folder, s.name, s.schema, self.recipe) for s in self.sets)
        return Plan(self.recipe, self.folder, sets, self.num_shards, self.features)


def make_recipe(
    config: GenerateConfig, info: TeacherInfo, factory: str | None = None
) -> PoolRecipe:
    """Recipe of the pool that `config` asks of the teacher `info`.

    Raises:
        UserError: for a setting that the teacher's family does not have.
    """
    arch = info.generator
    possible: tuple[str, ...] = getattr(arch, "precisions", (config.precision,))
    if config.precision not in possible:
        raise UserError(
            f"generate.precision: {config.precision} is too narrow for the maps of this "
            f"{arch.title}; choose {' or '.join(possible)}"
        )
    recipe = PoolRecipe(
        generator_sha256=info.digests[GENERATOR_FILE],
        architecture=asdict(arch),
        seed=config.seed,
        truncation_psi=config.truncation_psi,
        truncation_cutoff=config.truncation_cutoff,
        noise=config.noise,
        samples_per_shard=config.samples_per_shard,
        render_batch=config.render_batch,
        precision=config.precision,
        code_sha256=None if factory is None else code_digest(factory, "teacher.factory"),
        image_codec=config.image_codec,
        image_quality=config.image_quality if config.image_codec in ("webp", "jpg") else None,
        classes=config.classes,
    )
    info.check_sampling(recipe.sampling)
    return recipe


def make_plan(
    config: GenerateConfig, info: TeacherInfo, store: Folder, factory: str | None = None
) -> Plan:
    """Compare the request with the store; shards that are gone or of the wrong size count as
    missing.

    Raises:
        UserError: for a feature that the teacher does not have; as `make_recipe` and
            `read_manifest` do.
    """
    recipe = make_recipe(config, info, factory)
    folder = store / TEACHER_POOLS / recipe.key
    arch = info.generator
    wanted = info.select(config.features)
    images = synthetic_schema(arch.resolution, arch.w_dim, recipe.image_codec, recipe.image_quality)
    sets = {IMAGES: images, **_choose_feature_sets(folder, wanted, config.feature_dtype)}
    return Plan(
        recipe,
        folder,
        tuple(_read_set(folder, name, schema, recipe) for name, schema in sets.items()),
        -(-config.num_samples // recipe.samples_per_shard),
        tuple(name for name, _ in wanted),
    )


def _choose_feature_sets(
    folder: Folder, wanted: list[tuple[str, int]], dtype: str
) -> dict[str, Schema]:
    """Sets that together hold `wanted`: the one of exactly these, else those there are, the largest
    first, and a new one for what they lack.
    """
    schema = feature_schema(wanted, dtype)
    exact = feature_set_name((name for name, _ in wanted), dtype)
    found = {
        name: manifest
        for name, manifest in read_feature_sets(folder)
        if manifest.schema.columns[0].dtype == schema.columns[0].dtype
    }
    if exact in found:
        return {exact: schema}
    chosen: dict[str, Schema] = {}
    lacking = dict(wanted)

    def size(item: tuple[str, Manifest]) -> tuple[int, str]:
        return -item[1].num_samples, item[0]

    for name, manifest in sorted(found.items(), key=size):
        held = [block.name for block in manifest.schema.features if block.name in lacking]
        if held:
            chosen[name] = manifest.schema
            lacking = {name: width for name, width in lacking.items() if name not in held}
    if lacking:
        chosen[feature_set_name(lacking, dtype)] = feature_schema(lacking.items(), dtype)
    return chosen


def _read_set(folder: Folder, name: str, schema: Schema, recipe: PoolRecipe) -> ShardSet:
    manifest = read_manifest(folder / name)
    if manifest is not None and manifest.schema != schema:
        raise UserError(
            f"{folder / name}: its columns are not those of its recipe; delete it and run "
            "`make generate` again"
        )
    sizes = (folder / name).list_files() if manifest is not None else {}
    existing = {}
    for shard in manifest.shards if manifest is not None else ():
        index, offset = divmod(shard.start_index, recipe.samples_per_shard)
        if (offset, shard.num_samples, shard.name) != (
            0,
            recipe.samples_per_shard,
            shard_name(index),
        ):
            raise UserError(
                f"{folder / name / MANIFEST_FOLDER}: lists {shard.name} with {shard.num_samples} "
                f"samples from {shard.start_index}, no shard of this recipe "
                f"({recipe.samples_per_shard} each); delete the part that lists it"
            )
        if sizes.get(shard.name) == shard.num_bytes:
            existing[index] = shard
    return ShardSet(name, schema, existing)


def write_origin(folder: Folder, origin: Origin) -> None:
    """Leave `recipe.json` in a pool's folder, unless it says just that."""
    if read_origin(folder) != origin:
        folder.write(RECIPE_FILE, (json.dumps(asdict(origin), indent=2) + "\n").encode())


def is_origin_of(plan: Plan) -> bool:
    """Whether the `recipe.json` of the plan's pool is there and of its recipe."""
    origin = read_origin(plan.folder)
    return origin is not None and origin.recipe.key == plan.recipe.key  # JSON has no tuples


def read_origin(folder: Folder) -> Origin | None:
    """What `write_origin` left; None for another schema version, damaged or absent."""
    try:
        return TypeAdapter(Origin).validate_json(folder.read(RECIPE_FILE))
    except (FileNotFoundError, ValidationError):
        return None

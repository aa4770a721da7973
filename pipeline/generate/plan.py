"""Which shards a request needs and which exist. Imports neither torch nor Ray.

The pool of a recipe is endless: shard *k* holds samples k·n … (k+1)·n - 1, always whole, and a
request for m samples needs the first ⌈m/n⌉ shards. Only shards in the manifest count, so an
interrupted run leaves nothing to clean up.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.config import GenerateConfig
from pipeline.teacher.architecture import GENERATOR_FILE, TeacherInfo
from shards.atomic import write_atomic
from shards.manifest import ShardInfo, read_manifest
from shards.schema import SCHEMA_VERSION, Schema, teacher_schema

RECIPE_FILE = "recipe.json"


@dataclass(frozen=True)
class PoolRecipe:
    """Everything that determines the bytes of a pool's shards; its hash is the cache key."""

    generator_sha256: str
    architecture: dict[str, Any]
    seed: int
    truncation_psi: float
    noise: str
    samples_per_shard: int
    render_batch: int
    precision: str = "float32"
    feature_dtype: str = "float16"
    image_codec: str = "npy"
    schema_version: int = SCHEMA_VERSION

    @property
    def key(self) -> str:
        """16 hex digits naming the pool in the store."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Plan:
    """A request against what is there: shards to render, and those already in the manifest."""

    recipe: PoolRecipe
    folder: Path
    schema: Schema
    existing: dict[int, ShardInfo]
    missing: list[int]


def make_recipe(config: GenerateConfig, info: TeacherInfo) -> PoolRecipe:
    """Recipe of the pool that `config` asks of the teacher `info`."""
    return PoolRecipe(
        generator_sha256=info.digests[GENERATOR_FILE],
        architecture=info.architecture.to_dict(),
        seed=config.seed,
        truncation_psi=config.truncation_psi,
        noise=config.noise,
        samples_per_shard=config.samples_per_shard,
        render_batch=config.render_batch,
    )


def make_plan(config: GenerateConfig, info: TeacherInfo, store: Path) -> Plan:
    """Compare the request with the store; shards that are gone or of the wrong size count as
    missing.
    """
    recipe = make_recipe(config, info)
    folder = store / "teacher" / recipe.key
    schema = teacher_schema(info.architecture.resolution, info.blocks, info.architecture.w_dim)
    manifest = read_manifest(folder)
    existing = {
        shard.start_index // recipe.samples_per_shard: shard
        for shard in (manifest.shards if manifest else ())
        if shard.has_right_size(folder)
    }
    num_shards = -(-config.num_samples // recipe.samples_per_shard)
    return Plan(
        recipe,
        folder,
        schema,
        existing,
        [index for index in range(num_shards) if index not in existing],
    )


def write_recipe(plan: Plan) -> None:
    """Leave the recipe beside the shards for human readers."""
    write_atomic(plan.folder / RECIPE_FILE, json.dumps(asdict(plan.recipe), indent=2) + "\n")

"""Which shards a request needs and which exist. Imports neither torch nor Ray.

The pool of a recipe is endless: shard *k* holds samples k·n … (k+1)·n - 1, always whole, and a
request for m samples needs the first ⌈m/n⌉ shards. Only shards in the manifest count, so an
interrupted run leaves nothing to clean up.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.config import GenerateConfig
from pipeline.record import file_digest
from pipeline.teacher.description import GENERATOR_FILE, TeacherInfo
from shards.atomic import write_atomic
from shards.errors import UserError
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
    truncation_cutoff: int | None
    noise: str
    samples_per_shard: int
    render_batch: int
    features: tuple[str, ...]
    precision: str = "float32"
    code_sha256: str | None = None
    """Of the source file of one's own module; None for the families that come with the project."""
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


def make_recipe(
    config: GenerateConfig, info: TeacherInfo, factory: str | None = None
) -> PoolRecipe:
    """Recipe of the pool that `config` asks of the teacher `info`.

    Raises:
        UserError: for a feature that the teacher does not have, or a setting its family does not.
    """
    arch = info.generator
    if config.truncation_psi != 1 and arch.family != "stylegan2":
        raise UserError(
            f"generate.truncation_psi: a {arch.family} teacher has no mapped latent to truncate; "
            "leave it at 1"
        )
    if config.precision != "float32" and not getattr(arch, "num_half_blocks", 0):
        raise UserError(
            "generate.precision: this teacher was made for float32 (no num_half_blocks in its "
            "teacher.json); leave it at float32"
        )
    return PoolRecipe(
        generator_sha256=info.digests[GENERATOR_FILE],
        architecture=asdict(arch),
        seed=config.seed,
        truncation_psi=config.truncation_psi,
        truncation_cutoff=config.truncation_cutoff,
        noise=config.noise,
        samples_per_shard=config.samples_per_shard,
        render_batch=config.render_batch,
        features=tuple(name for name, _ in info.select(config.features)),
        precision=config.precision,
        code_sha256=None if factory is None else _code_digest(factory),
    )


def _code_digest(factory: str) -> str:
    """SHA-256 of the source file that `factory` ("package.module:callable") lives in."""
    name = factory.partition(":")[0]
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        spec = None
    if spec is None or spec.origin is None or not Path(spec.origin).is_file():
        raise UserError(
            f"teacher.factory={factory}: there is no Python module {name}; run where it can be "
            "imported, or set PYTHONPATH"
        )
    return file_digest(Path(spec.origin))


def make_plan(
    config: GenerateConfig, info: TeacherInfo, store: Path, factory: str | None = None
) -> Plan:
    """Compare the request with the store; shards that are gone or of the wrong size count as
    missing.
    """
    recipe = make_recipe(config, info, factory)
    folder = store / "teacher" / recipe.key
    arch = info.generator
    schema = teacher_schema(arch.resolution, info.select(config.features), arch.w_dim)
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

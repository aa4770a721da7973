"""Which shards a request needs, and what names a pool."""

from __future__ import annotations

import json
from dataclasses import asdict, fields, replace
from pathlib import Path

import pytest

from pipeline.config import GenerateConfig
from pipeline.generate.plan import Plan, PoolRecipe, make_plan, make_recipe, write_recipe
from pipeline.generate.render import render_shard
from shards.manifest import Manifest, write_manifest
from shards.schema import SCHEMA_VERSION
from tests.tiny_shards import (
    ARCHITECTURE,
    BLOCKS,
    pool_recipe,
    random_generator,
    teacher_info,
)

INFO = teacher_info()
HALF_INFO = replace(INFO, generator=replace(ARCHITECTURE, num_half_blocks=2))
CONFIG = GenerateConfig(num_samples=20, samples_per_shard=8, render_batch=3, seed=5)


def plan(store: Path, num_samples: int = 20) -> Plan:
    return make_plan(CONFIG.model_copy(update={"num_samples": num_samples}), INFO, store)


def render(wanted: Plan, *indices: int) -> None:
    """Make `indices` of a plan exist, beside those that do."""
    generator = random_generator()
    shards = dict(wanted.existing)
    for index in indices:
        shards[index] = render_shard(generator, wanted.recipe, wanted.schema, wanted.folder, index)
    write_manifest(wanted.folder, Manifest(wanted.schema, tuple(shards.values())))


@pytest.mark.parametrize(("num_samples", "count"), [(1, 1), (8, 1), (9, 2), (16, 2), (20, 3)])
def test_make_plan_empty_store_misses_every_whole_shard_of_the_request(
    tmp_path: Path, num_samples: int, count: int
) -> None:
    wanted = plan(tmp_path, num_samples)
    assert wanted.missing == list(range(count))
    assert wanted.existing == {}


def test_make_plan_existing_shards_are_not_made_again(tmp_path: Path) -> None:
    render(plan(tmp_path), 0, 2)
    assert plan(tmp_path).missing == [1]
    render(plan(tmp_path), 1)
    assert plan(tmp_path).missing == []


def test_make_plan_larger_request_extends_and_smaller_one_is_served(tmp_path: Path) -> None:
    render(plan(tmp_path), 0, 1, 2)
    assert plan(tmp_path, 5).missing == []
    extended = plan(tmp_path, 33)
    assert extended.missing == [3, 4]
    assert sorted(extended.existing) == [0, 1, 2]
    assert extended.folder == plan(tmp_path).folder


def test_make_plan_shard_outside_the_manifest_counts_as_missing(tmp_path: Path) -> None:
    wanted = plan(tmp_path)
    render(wanted, 0, 1)
    render_shard(random_generator(), wanted.recipe, wanted.schema, wanted.folder, 2)
    assert plan(tmp_path).missing == [2]


@pytest.mark.parametrize("damage", ["gone", "short", "long"])
def test_make_plan_shard_gone_or_of_the_wrong_size_counts_as_missing(
    tmp_path: Path, damage: str
) -> None:
    wanted = plan(tmp_path)
    render(wanted, 0, 1, 2)
    path = wanted.folder / "shard-000001.tar"
    content = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(content[:-512] if damage == "short" else content + bytes(512))
    assert plan(tmp_path).missing == [1]


def test_make_plan_schema_is_the_teachers(tmp_path: Path) -> None:
    schema = plan(tmp_path).schema
    assert [(block.name, block.num_channels) for block in schema.features] == BLOCKS
    assert schema.column("image").shape == (3, 16, 16)
    assert schema.column("w").shape == (ARCHITECTURE.w_dim,)


CHANGES = {
    "generator_sha256": "1" * 64,
    "architecture": {**asdict(ARCHITECTURE), "conv_clamp": 256.0},
    "seed": 6,
    "truncation_psi": 0.5,
    "truncation_cutoff": 2,
    "features": ("synthesis.b16", "synthesis.b16.conv0", "w"),
    "noise": "const",
    "samples_per_shard": 16,
    "render_batch": 4,
    "precision": "float16",
    "feature_dtype": "float32",
    "image_codec": "png",
    "schema_version": SCHEMA_VERSION + 1,
    "code_sha256": "2" * 64,
}


@pytest.mark.parametrize("name", [field.name for field in fields(PoolRecipe)])
def test_pool_recipe_key_changes_with_every_field(name: str) -> None:
    recipe = pool_recipe()
    assert replace(recipe, **{name: CHANGES[name]}).key != recipe.key


def test_pool_recipe_key_is_a_function_of_its_fields() -> None:
    assert pool_recipe().key == pool_recipe().key
    assert len(pool_recipe().key) == 16


@pytest.mark.parametrize("name", sorted(set(GenerateConfig.model_fields) - {"num_samples"}))
def test_make_recipe_key_changes_with_every_config_field_but_the_pool_size(name: str) -> None:
    changed = CONFIG.model_copy(update={name: CHANGES[name]})
    assert make_recipe(changed, HALF_INFO).key != make_recipe(CONFIG, HALF_INFO).key
    larger = CONFIG.model_copy(update={"num_samples": 10**6})
    assert make_recipe(larger, INFO).key == make_recipe(CONFIG, INFO).key


def test_make_recipe_key_changes_with_the_teachers_weights_not_its_history() -> None:
    other = replace(INFO, digests={"generator.safetensors": "b" * 64})
    retold = replace(INFO, origin={"images_seen": 5})
    key = make_recipe(CONFIG, INFO).key
    assert make_recipe(CONFIG, other).key != key
    assert make_recipe(CONFIG, retold).key == key


def test_write_recipe_leaves_the_recipe_for_readers(tmp_path: Path) -> None:
    wanted = plan(tmp_path)
    write_recipe(wanted)
    content = json.loads((wanted.folder / "recipe.json").read_text())
    assert PoolRecipe(**{**content, "features": tuple(content["features"])}) == wanted.recipe

"""Which shards a request needs, and what names a pool."""

from __future__ import annotations

from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.config.generate import GenerateConfig
from pipeline.generate.plan import (
    Origin,
    Plan,
    PoolRecipe,
    make_plan,
    make_recipe,
    read_origin,
    write_origin,
)
from pipeline.generate.render import render_shard
from shards.manifest import ManifestWriter
from shards.pool import IMAGES
from shards.schema import SCHEMA_VERSION, feature_set_name
from shards.storage import Folder
from tests.support.tiny_shards import (
    ARCHITECTURE,
    BLOCKS,
    FEATURE_SET,
    FEATURES,
    pool_recipe,
    random_generator,
    teacher_info,
)

INFO = teacher_info()
ABLE_INFO = replace(INFO, generator=replace(ARCHITECTURE, num_half_blocks=2, num_classes=3))
CONFIG = GenerateConfig(num_samples=20, samples_per_shard=8, render_batch=3, seed=5)


def plan(store: Path, num_samples: int = 20, **changes: Any) -> Plan:
    config = CONFIG.model_copy(update={"num_samples": num_samples, **changes})
    return make_plan(config, INFO, Folder.at(store))


def render(wanted: Plan, *indices: int) -> None:
    """Make `indices` of a plan exist, beside those that do."""
    generator = random_generator()
    schemas = {shards.name: shards.schema for shards in wanted.sets}
    manifests = {name: ManifestWriter(wanted.folder / name, schemas[name]) for name in schemas}
    for index in indices:
        rendered = render_shard(generator, wanted.recipe, wanted.folder, schemas, index)
        for name, shard in rendered.shards.items():
            manifests[name].add(shard)
    for manifest in manifests.values():
        manifest.flush()


@pytest.mark.parametrize(("num_samples", "count"), [(1, 1), (8, 1), (9, 2), (16, 2), (20, 3)])
def test_make_plan_empty_store_misses_every_whole_shard_of_the_request(
    tmp_path: Path, num_samples: int, count: int
) -> None:
    wanted = plan(tmp_path, num_samples)
    assert wanted.missing == dict.fromkeys(range(count), (IMAGES, FEATURE_SET))
    assert [shards.existing for shards in wanted.sets] == [{}, {}]


def test_make_plan_existing_shards_are_not_made_again(tmp_path: Path) -> None:
    render(plan(tmp_path), 0, 2)
    assert list(plan(tmp_path).missing) == [1]
    render(plan(tmp_path), 1)
    assert plan(tmp_path).missing == {}


def test_make_plan_larger_request_extends_and_smaller_one_is_served(tmp_path: Path) -> None:
    render(plan(tmp_path), 0, 1, 2)
    assert plan(tmp_path, 5).missing == {}
    extended = plan(tmp_path, 33)
    assert list(extended.missing) == [3, 4]
    assert [sorted(shards.existing) for shards in extended.sets] == [[0, 1, 2]] * 2
    assert extended.folder == plan(tmp_path).folder


def test_make_plan_shard_outside_the_manifest_counts_as_missing(tmp_path: Path) -> None:
    wanted = plan(tmp_path)
    render(wanted, 0, 1)
    schemas = {shards.name: shards.schema for shards in wanted.sets}
    render_shard(random_generator(), wanted.recipe, wanted.folder, schemas, 2)
    assert plan(tmp_path).missing == {2: (IMAGES, FEATURE_SET)}


@pytest.mark.parametrize("name", [IMAGES, FEATURE_SET])
@pytest.mark.parametrize("damage", ["gone", "short", "long"])
def test_make_plan_shard_gone_or_of_the_wrong_size_counts_as_missing(
    tmp_path: Path, damage: str, name: str
) -> None:
    wanted = plan(tmp_path)
    render(wanted, 0, 1, 2)
    path = wanted.folder.path / name / "shard-000001.tar"
    content = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(content[:-512] if damage == "short" else content + bytes(512))
    assert plan(tmp_path).missing == {1: (name,)}


def test_make_plan_schemas_are_the_teachers(tmp_path: Path) -> None:
    images, features = plan(tmp_path).sets
    assert (images.name, features.name) == (IMAGES, FEATURE_SET)
    laid_out = [(block.name, block.num_channels) for block in features.schema.features]
    assert laid_out == BLOCKS
    assert images.schema.column("image").shape == (3, 16, 16)
    assert images.schema.column("w").shape == (ARCHITECTURE.w_dim,)


def test_make_plan_other_features_are_rendered_beside_the_same_images(tmp_path: Path) -> None:
    render(plan(tmp_path), 0, 1, 2)
    others = ("synthesis.b8.conv0", "w")
    wanted = plan(tmp_path, features=others)
    assert wanted.folder == plan(tmp_path).folder
    assert wanted.missing == dict.fromkeys(range(3), (feature_set_name(others, "float16"),))
    render(wanted, 0, 1, 2)
    assert plan(tmp_path, features=others).missing == {}
    assert plan(tmp_path).missing == {}, "what was there stays"


def test_make_plan_features_that_are_stored_are_not_rendered_again(tmp_path: Path) -> None:
    render(plan(tmp_path), 0, 1, 2)
    served = plan(tmp_path, features=("synthesis.b16", "synthesis.b4"))
    assert served.missing == {}
    assert served.feature_sets == [FEATURE_SET]
    assert served.features == ("synthesis.b16", "synthesis.b4")
    wanted = plan(tmp_path, features=("synthesis.b8", "w"))
    lacking = feature_set_name(("w",), "float16")
    assert wanted.feature_sets == [FEATURE_SET, lacking]
    assert wanted.missing == dict.fromkeys(range(3), (lacking,))


def test_make_plan_features_of_another_type_are_rendered_beside(tmp_path: Path) -> None:
    render(plan(tmp_path), 0, 1, 2)
    wanted = plan(tmp_path, feature_dtype="float32")
    exact = feature_set_name(FEATURES, "float32")
    assert exact != FEATURE_SET
    assert wanted.missing == dict.fromkeys(range(3), (exact,))


CHANGES = {
    "generator_sha256": "1" * 64,
    "architecture": {**asdict(ARCHITECTURE), "conv_clamp": 256.0},
    "seed": 6,
    "truncation_psi": 0.5,
    "truncation_cutoff": 2,
    "noise": "const",
    "samples_per_shard": 16,
    "render_batch": 4,
    "precision": "float16",
    "image_codec": "png",
    "image_quality": 80,
    "classes": (0, 2),
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


BESIDE = {"num_samples": 10**6, "features": ("w",), "feature_dtype": "float32"}
"""Fields that say how much of a pool is wanted, and which features of it."""


@pytest.mark.parametrize("name", sorted(GenerateConfig.model_fields.keys() - BESIDE))
def test_make_recipe_key_changes_with_every_config_field_that_shapes_a_sample(name: str) -> None:
    config = CONFIG.model_copy(update={"image_codec": "webp"})
    changed = config.model_copy(update={name: CHANGES[name]})
    assert make_recipe(changed, ABLE_INFO).key != make_recipe(config, ABLE_INFO).key


@pytest.mark.parametrize(("name", "value"), BESIDE.items())
def test_make_recipe_key_does_not_change_with_pool_size_and_features(name: str, value: Any) -> None:
    changed = CONFIG.model_copy(update={name: value})
    assert make_recipe(changed, INFO).key == make_recipe(CONFIG, INFO).key


@pytest.mark.parametrize("codec", ["npy", "png"])
def test_make_recipe_key_does_not_change_with_a_quality_that_does_nothing(codec: str) -> None:
    config = CONFIG.model_copy(update={"image_codec": codec})
    changed = config.model_copy(update={"image_quality": 80})
    assert make_recipe(changed, INFO).key == make_recipe(config, INFO).key


def test_make_recipe_key_changes_with_the_teachers_weights_not_its_history() -> None:
    other = replace(INFO, digests={"generator.safetensors": "b" * 64})
    retold = replace(INFO, origin={"images_seen": 5})
    key = make_recipe(CONFIG, INFO).key
    assert make_recipe(CONFIG, other).key != key
    assert make_recipe(CONFIG, retold).key == key


def test_write_origin_chosen_classes_are_read_back(tmp_path: Path) -> None:
    origin = Origin(replace(pool_recipe(), classes=(1, 3)), "/teachers/a", None)
    write_origin(Folder.at(tmp_path), origin)
    assert read_origin(Folder.at(tmp_path)) == origin


def test_write_origin_leaves_recipe_and_teacher_for_readers(tmp_path: Path) -> None:
    wanted = plan(tmp_path)
    assert read_origin(wanted.folder) is None
    for teacher in ("/teachers/a", "/teachers/b"):
        origin = Origin(wanted.recipe, teacher, "package.module:build")
        write_origin(wanted.folder, origin)
        assert read_origin(wanted.folder) == origin

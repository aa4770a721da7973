"""What a training reads of a store: the features, samples and place that its config names."""

from __future__ import annotations

from pathlib import Path

import pytest

from shards.pool import IMAGES
from tests.support.command_line import assert_mistake
from tests.support.stored_pools import (
    BLOCKS,
    Site,
    contents,
    edit_column,
    features,
    flip,
    set_of,
    snapshot,
)

TRAINING = (
    "train.epochs=2",
    "train.global_batch=8",
    "train.student.width=4",
    "train.student.embedding_dim=16",
)


@pytest.mark.slow
def test_generate_fewer_samples_renders_nothing_and_trains_on_a_prefix(site: Site) -> None:
    before = snapshot(site.pool)
    few = "generate.num_samples=10"
    site.stage("generate", few)
    assert snapshot(site.pool) == before
    damaged = site.pool / IMAGES / "shard-000002.tar"
    flip(damaged, 3000)
    site.stage("train", few, *TRAINING)
    for stage in ("real", "generate"):
        site.stage(stage, "name=all")
    assert_mistake(site.try_stage("train", "name=all", *TRAINING), damaged)


@pytest.mark.slow
def test_train_on_a_prefix_equals_train_on_a_pool_of_just_that_size(
    site: Site, tmp_path: Path
) -> None:
    few = "generate.num_samples=16"
    site.stage("generate", few)
    site.stage("train", few, *TRAINING)
    small = Site(tmp_path / "small", site.source)
    for stage in ("real", "generate", "train"):
        small.stage(stage, few, *TRAINING)
    assert student(small) == student(site)


def student(site: Site) -> bytes:
    return (site.runs / "tiny" / "train" / "student.safetensors").read_bytes()


@pytest.mark.slow
def test_train_distils_only_the_features_that_the_config_asks_for(
    site: Site, tmp_path: Path
) -> None:
    one = features("synthesis.b8")
    alone = Site(tmp_path / "alone", site.source)
    for stage in ("real", "generate", "train"):
        alone.stage(stage, one, *TRAINING)
    assert [path.name for path in alone.pool.glob("features-*")] == [set_of("synthesis.b8")]
    site.stage("generate", one)
    site.stage("train", one, *TRAINING)
    assert student(site) == student(alone), "wherever they are stored"
    everything = site.copy_to(tmp_path / "everything")
    everything.stage("generate", "name=all")
    everything.stage("real", "name=all")
    everything.stage("train", "name=all", *TRAINING)
    path = everything.runs / "all" / "train" / "student.safetensors"
    assert path.read_bytes() != student(site), "more features make another student"


@pytest.mark.slow
def test_train_chooses_among_the_features_of_the_pool(site: Site, tmp_path: Path) -> None:
    both = features("synthesis.b8", "w")
    site.stage("generate", both)
    site.stage("train", both, "train.features=[w]", *TRAINING)
    only_w = Site(tmp_path / "only w", site.source)
    for stage in ("real", "generate", "train"):
        only_w.stage(stage, features("w"), *TRAINING)
    assert student(site) == student(only_w)


@pytest.mark.slow
def test_train_on_a_feature_that_was_not_asked_for_names_those_there_are(site: Site) -> None:
    result = site.try_stage("train", "train.features=[synthesis.b32]", *TRAINING)
    assert_mistake(result, "train.features", "synthesis.b32", *BLOCKS)


@pytest.mark.slow
def test_train_does_not_mind_damage_in_features_that_it_does_not_use(site: Site) -> None:
    only_w = features("w")
    site.stage("generate", only_w)
    damaged = site.pool / set_of(*BLOCKS) / "shard-000001.tar"
    edit_column(damaged.parent, damaged.name, "features", 0, lambda value: value.fill(7))
    site.stage("train", only_w, *TRAINING)
    site.stage("generate", "name=all")
    site.stage("real", "name=all")
    assert_mistake(site.try_stage("train", "name=all", *TRAINING), damaged)


@pytest.mark.slow
def test_train_again_after_the_pool_has_grown_is_done_already(site: Site) -> None:
    site.stage("train", *TRAINING)
    before = snapshot(site.runs / "tiny" / "train")
    site.stage("generate", "name=larger", "generate.num_samples=40")
    site.stage("generate", "name=other", features("w"))
    site.stage("train", *TRAINING)
    assert snapshot(site.runs / "tiny" / "train") == before


@pytest.mark.slow
def test_train_after_the_store_has_moved_reads_it_where_it_is(site: Site, tmp_path: Path) -> None:
    place = tmp_path / "another disk" / "store"
    place.parent.mkdir()
    before = contents(site.store)
    site.store.rename(place)
    for stage in ("real", "generate", "train"):
        site.stage(stage, f"paths.store={place}", *TRAINING)
    assert contents(place) == before
    assert not site.store.exists()


@pytest.mark.slow
def test_train_on_a_copy_of_the_store_reads_the_copy(site: Site, tmp_path: Path) -> None:
    copy = site.copy_to(tmp_path / "copy").store
    for stage in ("real", "generate"):
        site.stage(stage, f"paths.store={copy}")
    for path in site.store.rglob("*.tar"):
        path.unlink()
    site.stage("train", f"paths.store={copy}", *TRAINING)

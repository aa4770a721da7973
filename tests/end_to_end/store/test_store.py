"""What a request renders that meets a store with something in it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from shards.pool import IMAGES
from tests.support.command_line import assert_mistake
from tests.support.stored_pools import (
    BLOCKS,
    Site,
    contents,
    features,
    listed_rows,
    read_set,
    set_of,
    snapshot,
)


def test_generate_more_samples_renders_only_the_rest(site: Site, tmp_path: Path) -> None:
    before = snapshot(site.pool)
    site.stage("generate", "generate.num_samples=40")
    after = snapshot(site.pool)
    new_tars = {str(path) for path in after.keys() - before.keys() if path.suffix == ".tar"}
    sets = (IMAGES, set_of(*BLOCKS))
    assert new_tars == {f"{name}/shard-{index:06d}.tar" for name in sets for index in (3, 4)}
    assert {path: after[path] for path in before} == before, "what was there is not touched"
    at_once = Site(tmp_path / "at once", site.source)
    at_once.stage("generate", "generate.num_samples=40")
    assert contents(at_once.pool) == contents(site.pool)


def test_generate_samples_up_to_the_end_of_a_shard_renders_nothing(site: Site) -> None:
    before = contents(site.pool)
    site.stage("generate", "generate.num_samples=17")
    assert contents(site.pool) == before
    site.stage("generate", "generate.num_samples=25")
    assert len(contents(site.pool)) == len(before) + 2


@pytest.mark.parametrize(
    ("overrides", "new_set"),
    [
        ((features("synthesis.b8.conv0"),), set_of("synthesis.b8.conv0")),
        ((features("synthesis.b8", "w"),), set_of("w")),
        (("generate.feature_dtype=float32",), set_of(*BLOCKS, dtype="float32")),
    ],
)
def test_generate_other_features_renders_them_beside_and_touches_nothing(
    site: Site, overrides: tuple[str, ...], new_set: str
) -> None:
    before = snapshot(site.pool)
    site.stage("generate", *overrides)
    after = snapshot(site.pool)
    assert {path: after[path] for path in before} == before
    added = {path.parts[0] for path in after.keys() - before.keys()}
    assert added == {new_set}
    assert len(list((site.pool / new_set).glob("*.tar"))) == 3


def test_generate_features_of_two_types_agree(site: Site) -> None:
    site.stage("generate", "generate.feature_dtype=float32")
    half, full = (
        [
            np.frombuffer(raw, dtype)
            for path in sorted((site.pool / name).glob("*.tar"))
            for raw in member_data(path, site.pool / name)
        ]
        for name, dtype in (
            (set_of(*BLOCKS), "<f2"),
            (set_of(*BLOCKS, dtype="float32"), "<f4"),
        )
    )
    assert len(half) == len(full) == 24
    for short, long in zip(half, full, strict=True):
        assert np.array_equal(long.astype("<f2"), short)


def member_data(path: Path, folder: Path) -> list[bytes]:
    """Array data of each sample of a set of features."""
    schema = read_set(folder).schema
    content, start = path.read_bytes(), schema.offset_bytes("features")
    size = int(np.prod(schema.columns[0].shape)) * np.dtype(schema.columns[0].dtype).itemsize
    starts = range(start, 8 * schema.stride_bytes, schema.stride_bytes)
    return [content[at : at + size] for at in starts]


@pytest.mark.parametrize(
    "overrides",
    [
        (features("synthesis.b8"),),
        (features("synthesis.b16", "synthesis.b4"),),
        (features(*BLOCKS),),
        (features("synthesis.b8"), "generate.num_samples=9"),
    ],
)
def test_generate_features_that_are_there_renders_nothing(
    site: Site, overrides: tuple[str, ...]
) -> None:
    before = snapshot(site.pool)
    site.stage("generate", *overrides)
    assert snapshot(site.pool) == before


def test_generate_more_samples_of_some_features_leaves_the_others_for_later(site: Site) -> None:
    only_w = features("w")
    site.stage("generate", only_w, "generate.num_samples=40")
    counts = {name: read_set(site.pool / name).num_samples for name in (IMAGES, set_of("w"))}
    assert counts == {IMAGES: 40, set_of("w"): 40}
    assert read_set(site.pool / set_of(*BLOCKS)).num_samples == 24
    images = snapshot(site.pool / IMAGES)
    site.stage("generate", "generate.num_samples=40")
    assert snapshot(site.pool / IMAGES) == images
    assert read_set(site.pool / set_of(*BLOCKS)).num_samples == 40


def test_generate_a_shard_that_is_gone_renders_that_shard_alone(site: Site) -> None:
    before = snapshot(site.pool)
    lost = Path(IMAGES) / "shard-000001.tar"
    (site.pool / lost).unlink()
    site.stage("generate")
    after = snapshot(site.pool)
    assert after[lost][1] == before[lost][1]
    assert {path: after[path] for path in before if path != lost} == {
        path: value for path, value in before.items() if path != lost
    }


def test_generate_what_is_there_for_another_run_renders_nothing(site: Site) -> None:
    before = snapshot(site.store)
    site.stage("generate", "name=other")
    assert snapshot(site.store) == before
    assert (site.runs / "other" / "generate" / "record.json").exists()


@pytest.mark.parametrize(
    "override",
    ["generate.seed=1", "generate.noise=const", "generate.image_codec=png"],
)
def test_generate_another_recipe_makes_another_pool(site: Site, override: str) -> None:
    before = snapshot(site.store)
    site.stage("generate", override)
    after = snapshot(site.store)
    assert {path: after[path] for path in before} == before
    assert len(list((site.store / "teacher").iterdir())) == 2


def test_generate_with_a_moved_teacher_renders_nothing_and_remembers_where_it_is(
    site: Site, tmp_path: Path
) -> None:
    moved = tmp_path / "moved"
    moved.mkdir()
    for path in site.teacher.iterdir():
        (moved / path.name).write_bytes(path.read_bytes())
    before = contents(site.pool)
    site.stage("generate", "name=other", f"teacher.checkpoint={moved}")
    assert contents(site.pool) == before
    assert str(moved) in site.shards("show", site.pool.name)[1]


def test_store_in_a_place_that_is_a_file_is_named(site: Site) -> None:
    taken = site.folder / "taken"
    taken.write_text("a file where a folder should be")
    for stage in ("real", "generate"):
        assert_mistake(site.try_stage(stage, "name=other", f"paths.store={taken}"), taken)
    assert taken.read_text() == "a file where a folder should be"


@pytest.mark.parametrize("name", [IMAGES, "claims", "features"])
def test_generate_into_a_pool_with_a_file_in_the_way_names_it(site: Site, name: str) -> None:
    before = contents(site.pool)
    more = "generate.num_samples=40"
    path = site.features if name == "features" else site.pool / name
    aside = path.with_name("aside")
    if path.exists():
        path.rename(aside)
    path.write_text("in the way")
    assert_mistake(site.try_stage("generate", more), path)
    assert path.read_text() == "in the way"
    path.unlink()
    if aside.exists():
        aside.rename(path)
    assert before.items() <= contents(site.pool).items()
    site.stage("generate", more)
    assert len(contents(site.pool)) == 10
    assert sorted(listed_rows(site.pool / IMAGES)) == [f"shard-{k:06d}.tar" for k in range(5)]

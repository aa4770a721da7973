"""`shards verify` where a pool's manifest or recipe is wrong."""

from __future__ import annotations

import shutil

import pytest

from shards.pool import IMAGES
from tests.support.command_line import assert_mistake
from tests.support.stored_pools import (
    PER_SHARD,
    SHARD,
    Site,
    contents,
    flip,
    relist,
    snapshot,
    unlist,
)


@pytest.mark.parametrize(
    "changes",
    [
        {"num_samples": PER_SHARD - 1},
        {"start_index": PER_SHARD - 1},
        {"start_index": 0},
        {"start_index": 5 * PER_SHARD},
    ],
)
def test_repair_of_a_shard_that_the_manifest_describes_wrongly_deletes_nothing(
    site: Site, changes: dict[str, int]
) -> None:
    relist(site.pool / IMAGES, SHARD, **changes)
    code, out, _ = site.verify()
    assert code == 1
    assert f"{IMAGES}/{SHARD}: " in out
    flip(site.features / SHARD, 2000)
    before = contents(site.pool)
    assert_mistake(site.verify("--repair"), site.pool / IMAGES / "manifest", SHARD)
    assert contents(site.pool) == before


def test_verify_finds_a_gap_and_generate_fills_it(site: Site) -> None:
    expected = contents(site.pool)
    unlist(site.pool / IMAGES, SHARD)
    code, out, _ = site.verify()
    assert code == 1
    assert f"{IMAGES}: sample {PER_SHARD} is in no shard" in out
    assert site.verify("--repair")[0] == 1, "what is listed is sound"
    site.stage("generate")
    assert site.verify()[0] == 0
    assert contents(site.pool) == expected


@pytest.mark.parametrize("damage", ["flipped", "cut", "empty", "other version"])
def test_verify_names_a_damaged_part_of_a_manifest(site: Site, damage: str) -> None:
    expected = contents(site.pool)
    (part,) = (site.features / "manifest").iterdir()
    content = part.read_bytes()
    if damage == "flipped":
        flip(part, len(content) // 2)
    elif damage == "cut":
        part.write_bytes(content[:-20])
    elif damage == "empty":
        part.write_bytes(b"")
    else:
        part.write_bytes(content.replace(b"schema_version\x18\x012", b"schema_version\x18\x011"))
        assert part.read_bytes() != content
    for options in ((), ("--repair",), ("--audit", "3")):
        code, out, errors = site.verify(*options)
        assert code == 1, errors
        assert str(part) in out
    assert contents(site.pool) == expected
    part.unlink()
    site.stage("generate", "name=again")
    assert site.verify()[0] == 0
    assert contents(site.pool) == expected


@pytest.mark.parametrize("damage", ["{", "", "[]", '{"recipe": {}}', None])
def test_verify_names_a_damaged_recipe_and_generate_writes_it_again(
    site: Site, damage: str | None
) -> None:
    path = site.pool / "recipe.json"
    recipe = path.read_bytes()
    if damage is None:
        path.unlink()
    else:
        path.write_text(damage)
    code, out, errors = site.verify()
    assert code == 1, errors
    assert str(path) in out
    flip(site.pool / IMAGES / SHARD, 2000)
    before = contents(site.pool)
    assert_mistake(site.verify("--repair"), site.pool, "recipe.json")
    assert contents(site.pool) == before
    site.stage("generate", "name=again")
    assert path.read_bytes() == recipe
    assert site.verify("--repair")[0] == 0


@pytest.mark.parametrize(
    "change", [('"seed": 0', '"seed": 1'), ('"noise": "random"', '"noise": "none"')]
)
def test_repair_by_a_recipe_that_is_not_of_the_key_is_refused_and_deletes_nothing(
    site: Site, change: tuple[str, str]
) -> None:
    path = site.pool / "recipe.json"
    path.write_text(path.read_text().replace(*change))
    flip(site.pool / IMAGES / SHARD, 2000)
    before = snapshot(site.folder)
    code, out, _ = site.verify()
    assert code == 1
    assert str(path) in out
    for options in (("--repair",), ("--repair", "--teacher", site.teacher)):
        assert_mistake(site.verify(*options), site.pool, "recipe.json")
    assert snapshot(site.folder) == before


def test_verify_of_a_pool_just_begun_is_one_line(site: Site) -> None:
    for folder in site.pool.iterdir():
        if folder.is_dir():
            shutil.rmtree(folder)
    for options in ((), ("--repair",), ("--audit", "5")):
        code, out, errors = site.verify(*options)
        assert code in (1, 2), errors
        assert "Traceback" not in errors
        assert "no shards" in out + errors

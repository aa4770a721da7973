"""`shards verify`: what is wrong with a pool, shard by shard; mended to the same bytes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from shards.pool import IMAGES
from shards.schema import encode_meta
from shards.storage import Folder
from shards.writer import write_shard
from tests.support.stored_pools import (
    PER_SHARD,
    SHARD,
    Site,
    assert_damage,
    assert_only_changed,
    contents,
    edit_column,
    flip,
    folder_of,
    read_set,
    relist_as_it_is,
    snapshot,
)

LAST = "shard-000002.tar"


def feature_arrays(site: Site, count: int = PER_SHARD) -> dict[str, np.ndarray]:
    shape = read_set(site.features).schema.column("features").shape
    return {"features": np.ones((count, *shape), dtype=np.float16)}


def image_arrays(site: Site, count: int = PER_SHARD) -> dict[str, np.ndarray]:
    schema = read_set(site.pool / IMAGES).schema
    zeros = {
        name: np.zeros((count, *schema.column(name).shape), schema.column(name).dtype)
        for name in ("image", "w")
    }
    return {**zeros, "meta": encode_meta({"index": k} for k in range(count))}


def write_by_hand(site: Site, name: str, start: int, count: int) -> None:
    """Another shard in place of `SHARD`, with the digest that the manifest then has."""
    folder = folder_of(site, name)
    arrays = (feature_arrays if name == "features" else image_arrays)(site, count)
    write_shard(Folder.at(folder), SHARD, read_set(folder).schema, start, [arrays])
    relist_as_it_is(folder, SHARD)


# What is damaged


def flip_a_byte(folder: Path) -> None:
    flip(folder / SHARD, 2000)


def flip_a_header(folder: Path) -> None:
    flip(folder / SHARD, 3)


def truncate(folder: Path) -> None:
    path = folder / SHARD
    path.write_bytes(path.read_bytes()[:-1000])


def lengthen(folder: Path) -> None:
    path = folder / SHARD
    path.write_bytes(path.read_bytes() + bytes(512))


def delete(folder: Path) -> None:
    (folder / SHARD).unlink()


def empty(folder: Path) -> None:
    (folder / SHARD).write_bytes(b"")


def replace_by_neighbour(folder: Path) -> None:
    shutil.copyfile(folder / LAST, folder / SHARD)


@dataclass(frozen=True)
class Kind:
    damage: Callable[[Path], None]
    says: str


KINDS = {
    "flipped byte": Kind(flip_a_byte, "sha256"),
    "flipped header": Kind(flip_a_header, "sha256"),
    "truncated": Kind(truncate, "bytes instead of"),
    "lengthened": Kind(lengthen, "bytes instead of"),
    "empty": Kind(empty, "has 0 bytes instead of"),
    "deleted": Kind(delete, "missing"),
    "replaced": Kind(replace_by_neighbour, "sha256"),
}


@pytest.mark.parametrize("name", [IMAGES, "features"])
@pytest.mark.parametrize("kind", KINDS)
def test_verify_names_a_damaged_shard_and_repair_restores_its_bytes(
    site: Site, kind: str, name: str
) -> None:
    folder = folder_of(site, name)
    before = snapshot(site.folder)
    KINDS[kind].damage(folder)
    assert_damage(site.verify(), f"{folder.name}/{SHARD}: ", KINDS[kind].says)
    code, out, errors = site.verify("--repair")
    assert code == 0, errors
    assert "same bytes" in out
    assert_only_changed(site, before, folder / SHARD)
    assert site.verify()[0] == 0


def test_verify_names_every_damaged_shard_and_repair_mends_all(site: Site) -> None:
    before = snapshot(site.folder)
    damaged = [
        site.pool / IMAGES / "shard-000000.tar",
        site.pool / IMAGES / SHARD,
        site.features / SHARD,
        site.features / LAST,
    ]
    for path in damaged:
        flip(path, 1600)
    code, out, _ = site.verify()
    assert code == 1
    named = {line.partition(": ")[0] for line in out.splitlines() if ".tar: " in line}
    assert named == {f"{path.parent.name}/{path.name}" for path in damaged}
    assert "4 of 6" in out
    code, out, errors = site.verify("--repair")
    assert code == 0, errors
    assert out.splitlines()[-1].startswith("4 ")
    assert_only_changed(site, before, *damaged)


def test_verify_names_shards_that_were_swapped_and_repair_puts_them_right(site: Site) -> None:
    folder, before = site.pool / IMAGES, snapshot(site.folder)
    (folder / SHARD).rename(folder / "aside")
    (folder / LAST).rename(folder / SHARD)
    (folder / "aside").rename(folder / LAST)
    code, out, _ = site.verify()
    assert code == 1
    for name in (SHARD, LAST):
        assert any(line.startswith(f"{IMAGES}/{name}: ") for line in out.splitlines())
    assert site.verify("--repair")[0] == 0
    assert_only_changed(site, before, folder / SHARD, folder / LAST)


# Wrong, though its digest is the manifest's


@pytest.mark.parametrize("name", [IMAGES, "features"])
def test_verify_names_a_shard_with_too_few_samples(site: Site, name: str) -> None:
    expected = contents(site.pool)
    write_by_hand(site, name, PER_SHARD, PER_SHARD - 1)
    assert_damage(site.verify(), f"{folder_of(site, name).name}/{SHARD}: ", "members instead of")
    assert_mended(site, expected)


@pytest.mark.parametrize("name", [IMAGES, "features"])
def test_verify_names_a_shard_of_other_indices(site: Site, name: str) -> None:
    expected = contents(site.pool)
    write_by_hand(site, name, 2 * PER_SHARD, PER_SHARD)
    found = f"{2 * PER_SHARD:09d}"
    wanted = f"{PER_SHARD:09d}"
    assert_damage(site.verify(), f"{folder_of(site, name).name}/{SHARD}: ", found, wanted)
    assert_mended(site, expected)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_verify_names_a_feature_that_is_not_finite(site: Site, value: float) -> None:
    expected = contents(site.pool)

    def spoil(features: np.ndarray) -> None:
        features[3] = value

    edit_column(site.features, SHARD, "features", 2, spoil)
    relist_as_it_is(site.features, SHARD)
    sample = f"{PER_SHARD + 2:09d}.features.npy"
    assert_damage(site.verify(), f"{site.features.name}/{SHARD}: ", sample, "not finite")
    assert_mended(site, expected)


def test_verify_names_a_w_that_is_not_finite(site: Site) -> None:
    edit_column(site.pool / IMAGES, SHARD, "w", 7, lambda w: w.fill(np.nan))
    relist_as_it_is(site.pool / IMAGES, SHARD)
    assert_damage(site.verify(), f"{IMAGES}/{SHARD}: ", "000000015.w.npy", "not finite")


def test_verify_names_a_shard_that_is_no_tar(site: Site) -> None:
    expected = contents(site.pool)
    (site.features / SHARD).write_bytes(b"rubbish!" * 2048)
    relist_as_it_is(site.features, SHARD)
    assert_damage(site.verify(), f"{site.features.name}/{SHARD}: ", "tar")
    assert_mended(site, expected)


def assert_mended(site: Site, expected: dict[Path, bytes]) -> None:
    """A repair brings every byte back; what was wrong may have looked sound to `generate`."""
    site.verify("--repair")
    assert contents(site.pool) == expected
    code, out, _ = site.verify()
    assert code == 0, out

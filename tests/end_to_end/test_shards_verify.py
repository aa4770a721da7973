"""`shards verify`: what is wrong with a pool, shard by shard; mended to the same bytes; audited."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from pipeline.teacher.checkpoint import save_teacher
from pipeline.teacher.module import wrap_module
from shards.pool import IMAGES
from shards.schema import encode_meta
from shards.storage import Folder
from shards.writer import write_shard
from tests import own_generator
from tests.command_line import assert_mistake
from tests.stored_pools import (
    PER_SHARD,
    Site,
    contents,
    edit_column,
    flip,
    make_site,
    read_set,
    relist,
    relist_as_it_is,
    snapshot,
    unlist,
)
from tests.workspace import make_teacher

SHARD = "shard-000001.tar"
LAST = "shard-000002.tar"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Site:
    site = make_site(tmp_path_factory.mktemp("original"))
    site.stage("real")
    site.stage("generate")
    return site


@pytest.fixture
def site(original: Site, tmp_path: Path) -> Site:
    return original.copy_to(tmp_path / "site")


def folder_of(site: Site, name: str) -> Path:
    return site.features if name == "features" else site.pool / name


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


def assert_damage(result: tuple[int, str, str], *lines_with: str) -> None:
    """Exit code 1, one damaged shard, a line that has all of `lines_with`, the remedy."""
    code, out, errors = result
    assert code == 1, errors
    first, *_, last = out.splitlines()
    assert all(part in first for part in lines_with), first
    assert last.startswith("1 of 6 ")
    assert "--repair" in last


def assert_only_changed(site: Site, before: dict[Path, tuple[int, bytes]], *repaired: Path) -> None:
    """`repaired` are what they were, nothing else was touched; the manifest has new parts."""
    after = snapshot(site.folder)
    paths = {path.relative_to(site.folder) for path in repaired}
    for path, (written_at, content) in before.items():
        assert after[path][1] == content, path
        assert path in paths or after[path][0] == written_at, path
    new = after.keys() - before.keys()
    assert {path.parent for path in new} == {path.parent / "manifest" for path in paths}


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


def assert_mended(site: Site, expected: dict[Path, bytes]) -> None:
    """A repair brings every byte back; what was wrong may have looked sound to `generate`."""
    site.verify("--repair")
    assert contents(site.pool) == expected
    code, out, _ = site.verify()
    assert code == 0, out


# Manifest and recipe


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


# The teacher


def test_repair_with_a_moved_teacher_names_the_option_and_works_with_it(
    site: Site, tmp_path: Path
) -> None:
    recipe = site.pool / "recipe.json"
    recipe.write_text(recipe.read_text().replace(str(site.teacher), str(tmp_path / "gone")))
    before = snapshot(site.folder)
    flip(site.features / SHARD, 2000)
    damaged = snapshot(site.folder)
    assert_mistake(site.verify("--repair"), tmp_path / "gone", "--teacher")
    assert snapshot(site.folder) == damaged
    assert site.verify("--repair", "--teacher", site.teacher)[0] == 0
    assert_only_changed(site, before, site.features / SHARD)
    assert_mistake(site.verify("--audit", 5), tmp_path / "gone", "--teacher")
    assert site.verify("--audit", 5, "--teacher", site.teacher)[0] == 0


def test_repair_with_another_teacher_is_refused_and_deletes_nothing(
    site: Site, tmp_path: Path
) -> None:
    make_teacher(tmp_path / "other", seed=1)
    flip(site.pool / IMAGES / SHARD, 2000)
    before = snapshot(site.folder)
    result = site.verify("--repair", "--teacher", tmp_path / "other")
    assert_mistake(result, tmp_path / "other", "--teacher")
    assert snapshot(site.folder) == before


def test_repair_with_a_damaged_teacher_is_refused_and_deletes_nothing(
    site: Site, tmp_path: Path
) -> None:
    shutil.copytree(site.teacher, tmp_path / "damaged")
    weights = tmp_path / "damaged" / "generator.safetensors"
    flip(weights, weights.stat().st_size - 1)
    flip(site.pool / IMAGES / SHARD, 2000)
    before = snapshot(site.folder)
    assert_mistake(site.verify("--repair", "--teacher", tmp_path / "damaged"), weights)
    assert snapshot(site.folder) == before


def test_repair_with_changed_code_of_ones_own_is_refused_and_deletes_nothing(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = tmp_path / "changing_generator.py"
    shutil.copyfile(own_generator.__file__, code)
    monkeypatch.syspath_prepend(str(tmp_path))
    module = wrap_module(own_generator.build_random(), z_dim=6, blocks=["first", "second"])
    save_teacher(tmp_path / "own", module)
    teacher = f"teacher.checkpoint={tmp_path / 'own'}"
    site.stage("generate", teacher, "teacher.factory=changing_generator:build")
    expected = contents(site.pool)
    flip(site.pool / IMAGES / SHARD, 2000)
    before = snapshot(site.folder)
    source = code.read_text()
    code.write_text(source.replace(".tanh()", ".sigmoid()"))
    assert_mistake(site.verify("--repair"), "changing_generator")
    assert snapshot(site.folder) == before
    code.write_text(source)
    assert site.verify("--repair")[0] == 0
    assert contents(site.pool) == expected


# Real images


def test_verify_of_real_images_removes_the_damaged_and_real_packs_them_again(site: Site) -> None:
    expected = contents(site.real)
    damaged = site.real / "train" / SHARD
    flip(damaged, 2000)
    code, out, _ = site.verify(entry=site.real)
    assert code == 1
    assert out.startswith(f"train/{SHARD}: ")
    assert damaged.exists()
    code, out, _ = site.verify("--repair", entry=site.real)
    assert "make real" in out
    assert not damaged.exists()
    assert code in (0, 1)
    assert site.verify(entry=site.real)[0] == 1
    site.stage("real")
    assert site.verify(entry=site.real)[0] == 0
    assert contents(site.real) == expected


def test_audit_of_real_images_is_refused(site: Site) -> None:
    assert_mistake(site.verify("--audit", 3, entry=site.real), site.real.name)


# Audit


def test_audit_passes_on_a_sound_pool_and_changes_nothing(site: Site) -> None:
    site.stage("generate", "name=other", "generate.features=[w]", "generate.feature_dtype=float32")
    before = snapshot(site.folder)
    for count in (1, 7, 24, 1000):
        code, out, errors = site.verify("--audit", count)
        assert code == 0, out + errors
        assert out.count(f"{min(count, 24)} samples agree") == 4
    assert snapshot(site.folder) == before


@pytest.mark.parametrize(
    ("name", "column", "change"),
    [("features", "features", 0.05), (IMAGES, "w", 0.05), (IMAGES, "image", 3)],
)
def test_audit_finds_values_that_no_digest_betrays(
    site: Site, name: str, column: str, change: float
) -> None:
    folder = folder_of(site, name)

    def move(value: np.ndarray) -> None:
        value.reshape(-1)[5] = value.reshape(-1)[5] + np.array(change).astype(value.dtype)

    edit_column(folder, SHARD, column, 2, move)
    relist_as_it_is(folder, SHARD)
    assert site.verify()[0] == 0, "nothing tells but the teacher"
    code, out, _ = site.verify("--audit", 24)
    assert code == 1
    assert f"{folder.name}/{column}: samples {PER_SHARD + 2} are not" in out
    assert out.count("agree") == 2


def test_audit_finds_a_pool_of_another_seed(site: Site) -> None:
    site.stage("generate", "name=other", "generate.seed=9")
    (other,) = set((site.store / "teacher").iterdir()) - {site.pool}
    features = site.features
    shutil.rmtree(features)
    shutil.copytree(other / features.name, features)
    assert site.verify()[0] == 0
    assert site.verify("--audit", 1)[0] == 1


@pytest.mark.parametrize(
    ("codec", "quality"), [("png", 90), ("webp", 100), ("webp", 80), ("jpg", 90), ("jpg", 50)]
)
def test_audit_and_repair_of_encoded_images(site: Site, codec: str, quality: int) -> None:
    before = set((site.store / "teacher").iterdir())
    coded = (f"generate.image_codec={codec}", f"generate.image_quality={quality}")
    site.stage("generate", "name=coded", *coded)
    (pool,) = set((site.store / "teacher").iterdir()) - before
    expected = contents(pool)
    code, out, errors = site.verify("--audit", 24, entry=pool)
    assert code == 0, out + errors
    flip(pool / IMAGES / SHARD, 700)
    code, out, _ = site.verify(entry=pool)
    assert (code, out.count(".tar: ")) == (1, 1)
    code, out, errors = site.verify("--repair", entry=pool)
    assert code == 0, errors
    assert "same bytes" in out
    assert contents(pool) == expected


def test_verify_names_an_encoded_image_that_cannot_be_decoded(site: Site) -> None:
    before = set((site.store / "teacher").iterdir())
    site.stage("generate", "name=coded", "generate.image_codec=png")
    (pool,) = set((site.store / "teacher").iterdir()) - before
    flip(pool / IMAGES / SHARD, 514)  # in the signature of the first picture
    relist_as_it_is(pool / IMAGES, SHARD)
    assert_damage(site.verify(entry=pool), f"{IMAGES}/{SHARD}: ", "000000008.image.png")

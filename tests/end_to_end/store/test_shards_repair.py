"""`shards verify` and the teacher: repairs that it makes, or refuses to; audits against it."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from pipeline.teacher.checkpoint import save_teacher
from pipeline.teacher.networks.module import wrap_module
from shards.pool import IMAGES
from tests.support import own_generator
from tests.support.command_line import assert_mistake
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
    relist_as_it_is,
    snapshot,
)
from tests.support.workspace import make_teacher


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

"""`shards list | show | diff | gc`: what is in a store, who uses it, and what may go."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from shards.claims import Claims
from shards.pool import IMAGES
from shards.storage import Folder
from tests.support.command_line import assert_mistake, run
from tests.support.stored_pools import Site, snapshot
from tests.support.workspace import make_teacher


def row_of(text: str, key: str) -> str:
    (row,) = (line for line in text.splitlines() if key in line)
    return row


def add_pool(site: Site) -> Path:
    """A pool of 8 samples that no run refers to."""
    before = set((site.store / "teacher").iterdir())
    site.stage("generate", "name=gone", "generate.seed=7", "generate.num_samples=8")
    shutil.rmtree(site.runs / "gone")
    (added,) = set((site.store / "teacher").iterdir()) - before
    return added


# list and show


def test_shards_list_names_every_recipe_its_size_and_its_runs(site: Site) -> None:
    key, real = site.pool.name, site.real.name
    unused = add_pool(site).name
    code, out, errors = site.shards("list")
    assert (code, errors) == (0, "")
    assert row_of(out, key).split()[1:3] == ["synthetic", "24"]
    assert row_of(out, real).split()[1:3] == ["real", "18"]
    assert row_of(out, unused).split()[1:3] == ["synthetic", "8"]
    assert "tiny" in row_of(out, key)
    assert "no run" in row_of(out, unused)
    assert site.teacher.name in row_of(out, key)


def test_shards_list_of_no_store_is_one_line(tmp_path: Path) -> None:
    store = tmp_path / "nowhere"
    assert_mistake(run("shards", "list", "--store", store, "--runs", tmp_path), store)
    assert not store.exists()


def test_shards_list_of_an_empty_store_says_how_to_begin(tmp_path: Path) -> None:
    code, out, _ = run("shards", "list", "--store", tmp_path, "--runs", tmp_path)
    assert code == 0
    assert "make generate" in out


def test_shards_list_of_another_kind_of_url_is_refused() -> None:
    assert_mistake(run("shards", "list", "--store", "http://host/store"), "http://host/store")


def test_shards_list_notes_what_cannot_be_read(site: Site) -> None:
    (site.pool / "recipe.json").write_text("{")
    (part,) = (site.features / "manifest").iterdir()
    part.write_bytes(b"no parquet")
    code, out, _ = site.shards("list")
    assert code == 0
    assert f"{site.pool}/recipe.json" in out
    assert str(part) in out
    assert row_of(out, site.real.name)


def test_shards_show_tells_sets_columns_and_recipe(site: Site) -> None:
    code, out, errors = site.shards("show", site.pool.name[:5])
    assert (code, errors) == (0, "")
    assert row_of(out, f"{IMAGES} ").split()[1:3] == ["24", "3"]
    assert row_of(out, f"{site.features.name} ").split()[1:3] == ["24", "3"]
    for name in ("synthesis.b4 8", "synthesis.b8 8", "synthesis.b16 4", "w npy [8]"):
        assert name in out
    recipe = json.loads(out[out.index("\n{") :])
    assert recipe == json.loads((site.pool / "recipe.json").read_text())
    code, out, _ = site.shards("show", site.real.name)
    assert code == 0
    assert row_of(out, "train ").split()[1:3] == ["12", "3"]


@pytest.mark.parametrize("command", ["show", "verify", "diff"])
def test_shards_key_that_is_not_there_is_one_line(site: Site, command: str) -> None:
    config = [site.config] if command == "diff" else []
    assert_mistake(site.shards(command, "ffffffffffffffff", *config), "ffffffffffffffff", "list")


def test_shards_key_that_fits_several_names_them(site: Site) -> None:
    keys = [site.pool.name]
    twin = site.pool.with_name(keys[0][:-1] + ("0" if keys[0][-1] != "0" else "1"))
    shutil.copytree(site.pool, twin)
    before = snapshot(site.store)
    for command in ("show", "verify", "gc"):
        assert_mistake(site.shards(command, keys[0][:-1]), *keys, twin.name)
    assert site.shards("show", twin.name)[0] == 0
    assert snapshot(site.store) == before


# diff


def test_shards_diff_with_its_own_config_finds_nothing(site: Site) -> None:
    for entry in (site.pool, site.real):
        code, out, errors = site.shards("diff", entry.name, site.config)
        assert (code, errors) == (0, "")
        assert out.splitlines() == [f"{entry.name}: no difference from {site.config}"]


@pytest.mark.parametrize(
    ("overrides", "lines"),
    [
        (["generate.seed=3"], ["generate.seed=0 (now 3)"]),
        (
            ["generate.truncation_psi=0.5", "generate.render_batch=4"],
            ["generate.render_batch=5 (now 4)", "generate.truncation_psi=1.0 (now 0.5)"],
        ),
        (["train.epochs=5", "name=other", "generate.num_samples=10"], []),
        (["generate.features=[synthesis.b8]"], []),
    ],
)
def test_shards_diff_names_the_fields_that_differ(
    site: Site, overrides: list[str], lines: list[str]
) -> None:
    code, out, _ = site.shards("diff", site.pool.name, site.config, *overrides)
    assert code == bool(lines)
    if lines:
        assert out.splitlines() == lines


def test_shards_diff_with_another_teacher_names_its_weights_and_layers(
    site: Site, tmp_path: Path
) -> None:
    make_teacher(tmp_path / "other", resolution=32, seed=1)
    teacher = f"teacher.checkpoint={tmp_path / 'other'}"
    code, out, _ = site.shards("diff", site.pool.name, site.config, teacher)
    assert code == 1
    named = [line.partition("=")[0] for line in out.splitlines()]
    assert named == ["generate.architecture.resolution", "generate.generator_sha256"]


@pytest.mark.parametrize("override", ["generate.num_samples=33", "generate.feature_dtype=float32"])
def test_shards_diff_counts_what_is_still_to_be_rendered(site: Site, override: str) -> None:
    code, out, _ = site.shards("diff", site.pool.name, site.config, override)
    assert code == 1
    missing = "2 of 5" if "33" in override else "3 of 3"
    assert missing in out


def test_shards_diff_of_real_images_names_setting_and_files(site: Site, tmp_path: Path) -> None:
    code, out, _ = site.shards("diff", site.real.name, site.config, "real.resolution=32")
    assert (code, out.splitlines()) == (1, ["real.resolution=16 (now 32)"])
    images = tmp_path / "one, two"
    shutil.copytree(site.source / "images", images)
    next((images / "train").rglob("*.png")).unlink()
    code, out, _ = site.shards("diff", site.real.name, site.config, f"real.path={images}")
    assert code == 1
    named = [line.partition("=")[0] for line in out.splitlines()]
    assert named == ["input train", "real.path"], "one line for each field"


def test_shards_diff_with_a_recipe_that_cannot_be_read_is_one_line(site: Site) -> None:
    (site.pool / "recipe.json").unlink()
    assert_mistake(site.shards("diff", site.pool.name, site.config), site.pool, "recipe.json")


# gc


def test_shards_gc_lists_what_no_run_refers_to_and_deletes_nothing(site: Site) -> None:
    unused = add_pool(site)
    before = snapshot(site.folder)
    code, out, errors = site.shards("gc")
    assert (code, errors) == (0, "")
    assert row_of(out, unused.name)
    assert site.pool.name not in out
    assert site.real.name not in out
    assert snapshot(site.folder) == before


def test_shards_gc_delete_asks_first(site: Site) -> None:
    unused = add_pool(site)
    before = snapshot(site.folder)
    for answer in ("n\n", "\n", ""):
        code, out, _ = site.shards("gc", "--delete", answer=answer)
        assert code == 1
        assert row_of(out, unused.name)
        assert snapshot(site.folder) == before
    assert site.shards("gc", "--delete", answer="y\n")[0] == 0
    assert not unused.exists()


def test_shards_gc_delete_yes_removes_just_what_no_run_refers_to(site: Site) -> None:
    kept = snapshot(site.folder)
    unused = add_pool(site)
    code, out, _ = site.shards("gc", "--delete", "--yes")
    assert code == 0
    assert f"deleted {unused}" in out
    assert snapshot(site.folder) == kept
    assert not unused.exists()
    assert site.shards("gc", "--delete", "--yes")[0] == 0


def test_shards_gc_of_one_key_leaves_the_others(site: Site) -> None:
    first, second = add_pool(site), site.store / "teacher" / ("0" * 16)
    shutil.copytree(first, second)
    assert site.shards("gc", second.name, "--delete", "--yes")[0] == 0
    assert first.exists()
    assert not second.exists()


def test_shards_gc_of_a_key_named_twice_deletes_it_once(site: Site) -> None:
    unused = add_pool(site).name
    code, out, errors = site.shards("gc", unused, unused[:8], "--delete", "--yes")
    assert code == 0, errors
    assert out.count("deleted") == 1


@pytest.mark.parametrize("place", ["teacher", "real"])
def test_shards_gc_of_a_key_that_a_run_refers_to_is_refused(site: Site, place: str) -> None:
    unused = add_pool(site)
    (used,) = (path for path in (site.store / place).iterdir() if path != unused)
    before = snapshot(site.store)
    result = site.shards("gc", unused.name, used.name, "--delete", "--yes")
    assert_mistake(result, used.name, site.runs / "tiny")
    assert snapshot(site.store) == before


def test_shards_gc_knows_the_runs_of_several_folders(site: Site, tmp_path: Path) -> None:
    site.stage("generate", "generate.seed=7", f"paths.runs={tmp_path / 'more'}")
    (theirs,) = set((site.store / "teacher").iterdir()) - {site.pool}
    assert theirs.name in site.shards("gc")[1]
    code, out, _ = site.shards("gc", "--runs", tmp_path / "more", "--delete", "--yes")
    assert code == 0
    assert theirs.name not in out
    assert theirs.exists()
    result = site.shards("gc", "--runs", tmp_path / "nowhere", "--delete", "--yes")
    assert_mistake(result, tmp_path / "nowhere")


def test_shards_gc_keeps_the_labelled_sets_of_a_run(site: Site) -> None:
    images = site.source / "images"
    sets = [f"eval.sets.{name}.train={images / name}" for name in ("train", "test")]
    before = set((site.store / "real").iterdir())
    site.stage("real", *sets, "ray.pack_workers=0")
    packed = set((site.store / "real").iterdir()) - before
    assert len(packed) == 2
    code, out, _ = site.shards("gc", "--delete", "--yes")
    assert code == 0
    assert "0 recipes" in out
    listed = site.shards("list")[1]
    for name in ("train", "test"):
        assert f"tiny/sets/{name}" in listed
    shutil.rmtree(site.runs / "tiny" / "sets" / "test")
    assert site.shards("gc", "--delete", "--yes")[0] == 0
    assert sum(folder.exists() for folder in packed) == 1


def test_shards_gc_with_a_damaged_record_deletes_nothing(site: Site) -> None:
    add_pool(site)
    record = site.runs / "tiny" / "generate" / "record.json"
    record.write_text("{")
    before = snapshot(site.store)
    assert_mistake(site.shards("gc", "--delete", "--yes"), record)
    assert snapshot(site.store) == before


def test_shards_gc_of_a_pool_that_a_run_is_rendering_is_refused(site: Site) -> None:
    unused = add_pool(site)
    before = {path for path in snapshot(site.store) if "claims" not in path.parts}
    with Claims(Folder.at(unused)):
        for keys in ((unused.name,), ()):
            code, out, _ = site.shards("gc", *keys, "--delete", "--yes")
            assert code == 1
            assert f"kept: {unused}" in out
    assert {path for path in snapshot(site.store) if "claims" not in path.parts} == before
    assert site.shards("gc", unused.name, "--delete", "--yes")[0] == 0


def test_shards_gc_deletes_pools_of_an_older_version(site: Site) -> None:
    """Their manifest was one file beside the shards."""
    old = site.store / "teacher" / "0123456789abcdef"
    old.mkdir()
    for name in ("manifest.parquet", "recipe.json", "shard-000000.tar"):
        (old / name).write_bytes(b"{}".ljust(1000))
    code, out, _ = site.shards("gc")
    assert code == 0
    assert "3.0 kB" in row_of(out, old.name)
    assert "older version" in site.shards("list")[1]
    assert site.shards("gc", "--delete", "--yes")[0] == 0
    assert not old.exists()
    assert site.pool.exists()


def test_shards_gc_deletes_a_pool_that_cannot_be_read(site: Site) -> None:
    unused = add_pool(site)
    for part in unused.glob("*/manifest/*"):
        part.write_bytes(b"no parquet")
    (unused / "recipe.json").unlink()
    assert site.shards("gc", "--delete", "--yes")[0] == 0
    assert not unused.exists()

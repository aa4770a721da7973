"""`quality-sweep` and `pool-sweep` through the command line."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.support.command_line import assert_mistake
from tests.support.stored_pools import TINY_TRAINING, Site, make_site

pytestmark = pytest.mark.slow
TINY = (*TINY_TRAINING, "train.epochs=1", "sweep.seeds=[3]")
SMALL_TEACHER = (
    "teacher.checkpoint=null",
    "teacher.num_images=48",
    "teacher.global_batch=8",
    "teacher.mbstd_group_size=4",
    "teacher.z_dim=8",
    "teacher.w_dim=8",
    "teacher.num_mapping_layers=1",
    "teacher.channel_base=64",
    "teacher.channel_max=8",
    "teacher.num_half_blocks=0",
    "teacher.quality_images=12",
)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return make_site(tmp_path)


def records(site: Site) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in site.runs.rglob("record.json")}


def test_quality_sweep_trains_students_of_every_snapshot_and_then_does_nothing(site: Site) -> None:
    arguments = (*TINY, *SMALL_TEACHER, "teacher.snapshot_images=[8, 24]")
    code, _, errors = site.try_stage("quality-sweep", *arguments, "--dry-run")
    assert (code, errors.count("teacher   waits")) == (0, 1)
    assert not site.runs.exists()
    site.stage("quality-sweep", *arguments)
    folder = site.runs / "tiny"
    numbers = pq.read_table(folder / "quality-sweep.parquet").to_pylist()
    seen = {(n["row"], n["images_seen"]) for n in numbers}
    assert seen == {("000000008-pool24", 8), ("000000024-pool24", 24), ("teacher-pool24", 48)}
    assert {n["seed"] for n in numbers} == {3}
    assert all(n["frechet_distance"] > 0 for n in numbers)
    assert len({n["student"] for n in numbers}) == 3
    page = (folder / "quality-sweep.html").read_text()
    assert "data:image/svg+xml" in page
    assert "http" not in page.replace("http://www.w3.org", "")
    assert "000000024" in (folder / "quality-sweep.md").read_text()
    before = records(site)
    site.stage("quality-sweep", *arguments)
    assert records(site) == before


def test_quality_sweep_without_snapshots_says_what_to_type(site: Site) -> None:
    result = site.try_stage("quality-sweep", *TINY)
    assert_mistake(result, "teacher.snapshot_images", f"quality-sweep {site.config} ")
    result = site.try_stage("quality-sweep", *TINY, *SMALL_TEACHER)
    assert_mistake(result, "teacher.snapshot_images=[3, 6, 12, 24]")
    assert not (site.runs / "tiny").exists()


def test_quality_sweep_without_distances_is_refused(site: Site) -> None:
    options = ("teacher.snapshot_images=[8]", "teacher.quality_images=0")
    result = site.try_stage("quality-sweep", *TINY, *SMALL_TEACHER, *options)
    assert_mistake(result, "teacher.quality_images=")


def test_pool_sweep_trains_on_prefixes_and_online_and_then_does_nothing(site: Site) -> None:
    arguments = (*TINY, "sweep.pool_sizes=[6, 24]")
    site.stage("pool-sweep", *arguments)
    folder = site.runs / "tiny"
    numbers = pq.read_table(folder / "pool-sweep.parquet").to_pylist()
    online_size = 4 * max(1, 12 // 8)  # synthetic images of a step, steps of the one epoch
    assert {(n["row"], n["pool_size"], n["is_online"]) for n in numbers} == {
        ("teacher-pool6", 6, False),
        ("teacher-pool24", 24, False),
        ("teacher-online", online_size, True),
    }
    (pool,) = (site.store / "teacher").iterdir()
    assert len(list((pool / "images").glob("*.tar"))) == 3
    before = records(site)
    site.stage("pool-sweep", *arguments)
    assert records(site) == before
    site.stage("pool-sweep", *TINY, "sweep.pool_sizes=[6]")  # fewer: nothing to do
    assert records(site) == before
    assert len(pq.read_table(folder / "pool-sweep.parquet")["row"].unique()) == 2


def test_pool_sweep_with_other_settings_shows_no_numbers_of_earlier_ones(site: Site) -> None:
    tiny = (*TINY, "sweep.pool_sizes=[8]")
    site.stage("pool-sweep", *tiny)
    code, _, errors = site.try_stage("pool-sweep", *tiny, "train.learning_rate=0.5")
    assert code == 1
    assert "learning_rate" in errors
    markdown = (site.runs / "tiny" / "pool-sweep.md").read_text()
    assert markdown.count("not run: ") == 2
    assert pq.read_table(site.runs / "tiny" / "pool-sweep.parquet").num_rows == 0


def test_pool_sweep_of_a_method_without_synthetic_samples_is_refused(site: Site) -> None:
    changes = ("train.method.name=vicreg", "train.images=real")
    assert_mistake(site.try_stage("pool-sweep", *TINY, *changes), "synthetic samples")


def test_shards_gc_knows_the_trainings_of_sweeps(site: Site) -> None:
    site.stage("pool-sweep", *TINY, "sweep.pool_sizes=[8]")
    shutil.rmtree(site.runs / "tiny" / "real")
    code, out, _ = site.shards("gc")
    assert code == 0
    assert out.startswith("0 recipes")

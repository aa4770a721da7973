"""What the scaling benchmark reckons, and its runs at toy size."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from benchmarks.scale.__main__ import tabulate_manifests, tabulate_runs
from benchmarks.scale.costs import (
    gpu_hours,
    make_pools,
    measure_row_bytes,
    measure_sample_bytes,
    num_objects,
    photographs,
)
from benchmarks.scale.manifest import SAMPLES_PER_SHARD, take_manifest
from benchmarks.scale.run import RunTurn, digits_config, leave_empty_files
from pipeline.generate.plan import Plan, make_plan
from pipeline.generate.stage import fill
from pipeline.teacher.description import Teacher, read_teacher_info
from shards.manifest import ManifestWriter
from shards.pool import PoolReader
from shards.schema import feature_schema, synthetic_schema


def digits_plan(folder: Path, num_shards: int) -> Plan:
    config = digits_config(folder, num_shards)
    return make_plan(config.generate, read_teacher_info(config.teacher_folder), config.store)


def test_empty_files_in_place_of_shards_make_the_pool_that_was_asked_for(tmp_path: Path) -> None:
    plan = digits_plan(tmp_path, num_shards=3)
    writers = {s.name: ManifestWriter(plan.folder / s.name, s.schema) for s in plan.sets}
    for index in plan.missing:
        schemas = {shards.name: shards.schema for shards in plan.sets}
        rendered = leave_empty_files([], plan.recipe, plan.folder, schemas, index, "cpu", None)
        for name, shard in rendered.shards.items():
            writers[name].add(shard)
            writers[name].flush()
    assert digits_plan(tmp_path, num_shards=3).missing == {}
    assert digits_plan(tmp_path, num_shards=4).missing.keys() == {3}
    assert len(PoolReader(plan.folder, plan.feature_sets, remedy="")) == 3000


def test_empty_files_are_as_large_as_what_is_rendered(tmp_path: Path) -> None:
    """But for the zeros that fill a tar up to whole records."""
    config = digits_config(tmp_path / "real", 1)
    plan = digits_plan(tmp_path / "real", 1)
    here = config.ray.model_copy(update={"render_workers": 0})
    fill(plan, Teacher(config.teacher_folder, None), here)
    schemas = {shards.name: shards.schema for shards in plan.sets}
    holes = leave_empty_files(
        [], plan.recipe, plan.folder / "holes", schemas, 0, "cpu", None
    ).shards
    for shards in plan.refreshed().sets:
        assert 0 <= shards.existing[0].num_bytes - holes[shards.name].num_bytes < 10240
        assert shards.existing[0].name == holes[shards.name].name


@pytest.mark.parametrize("kind", ["raw", "jpg"])
def test_large_manifest_at_toy_size_is_read_looked_up_and_ordered(kind: str) -> None:
    turn = take_manifest(kind, 3 * SAMPLES_PER_SHARD)
    assert turn.num_samples == 3000
    assert turn.num_parts == 2
    sizes = 2 * 1000 * 3 if kind == "jpg" else 0
    digests = 2 * 3 * 32
    assert (sizes + digests) / 2**20 < turn.file_mb < (sizes + digests + 40_000) / 2**20
    for seconds in (turn.read_s, turn.open_s, turn.again_ms, turn.order_s):
        assert seconds > 0
    table = tabulate_manifests([turn, turn])
    assert table.headings == ("", kind, kind)


def test_run_table_gives_time_and_memory_per_shard() -> None:
    turn = RunTurn(
        num_shards=2000, plan_s=0.5, run_s=8, hit_s=1, grown_mb=4, peak_mb=900, bare_tasks_per_s=7
    )
    table = tabulate_runs([turn])
    row = dict(zip(table.headings, table.rows[0], strict=True))
    assert row["tasks/s"] == 250
    assert row["plan, us/shard"] == 250
    assert row["run, ms/shard"] == 4
    assert row["nothing to do, us/shard"] == 500
    assert row["grown, kB/shard"] == pytest.approx(2.048)


def test_sample_bytes_of_raw_columns_are_the_stride() -> None:
    for schema in (synthetic_schema(16, 64), feature_schema([("b4", 100), ("b8", 29)])):
        assert measure_sample_bytes(schema) == schema.stride_bytes


def test_sample_bytes_of_a_better_jpeg_are_more_and_less_than_raw() -> None:
    images = photographs(32)[::8]
    raw, fine, coarse = (
        measure_sample_bytes(synthetic_schema(32, 8, codec, quality), images)
        for codec, quality in (("npy", None), ("jpg", 95), ("jpg", 30))
    )
    assert coarse < fine < raw


def test_photographs_are_tiles_of_one_size_no_two_alike() -> None:
    tiles = photographs(64)
    assert tiles.dtype == np.uint8
    assert tiles.shape[1:] == (3, 64, 64)
    assert len({hashlib.sha256(tile.tobytes()).digest() for tile in tiles}) == len(tiles)


def test_row_bytes_hold_digest_and_sizes_of_samples() -> None:
    assert 32 < measure_row_bytes(feature_schema([("b4", 8)])) < 200
    with_sizes = measure_row_bytes(synthetic_schema(32, 8, "jpg", 90), num_rows=100)
    assert 0.5 * SAMPLES_PER_SHARD < with_sizes < 2.5 * SAMPLES_PER_SHARD


def test_gpu_hours_of_a_billion_operations_each() -> None:
    assert gpu_hours(3_600_000, gflop=10, tflops=20) == pytest.approx(0.5)


def test_objects_of_a_pool_are_those_that_it_has(tmp_path: Path) -> None:
    assert num_objects(100_000_000, 1000, num_sets=2, part_rows=1000) == 2 * (100_000 + 100) + 1
    assert num_objects(1001, 1000, num_sets=1, part_rows=1000) == 2 + 1 + 1


def test_pools_to_be_reckoned_have_the_features_of_their_generators() -> None:
    small, large = make_pools()
    assert [small.arch.num_channels(r) for r in small.arch.block_resolutions] == [512] * 4
    widths = [large.arch.num_channels(r) for r in large.arch.block_resolutions]
    assert widths == [512, 512, 512, 512, 256, 128, 64]

"""What the sweeps go over."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.config.root import Config
from pipeline.studies.sweeps.points import choose_sizes, pool_points, read_snapshots
from shards.errors import UserError
from tests.support.workspace import make_teacher


def make_snapshot(folder: Path, seed: int, **quality: Any) -> None:
    make_teacher(folder, seed=seed)
    path = folder / "teacher.json"
    info = json.loads(path.read_text())
    measured = {"frechet_distance": 4.0, "kernel_distance": 0.1, "feature_space": "a", **quality}
    info["origin"] = {"images_seen": seed, "quality": measured, "config": {"quality_images": 7}}
    path.write_text(json.dumps(info))


def test_snapshots_are_those_of_the_training_and_the_teacher_each_network_once(
    tmp_path: Path,
) -> None:
    make_snapshot(tmp_path / "snapshots" / "000000300", 3, frechet_distance=2.0)
    make_snapshot(tmp_path / "snapshots" / "000000100", 1)
    make_snapshot(tmp_path, 3, frechet_distance=2.0)  # the last snapshot is the teacher itself
    assert [(s.name, s.frechet_distance) for s in read_snapshots(tmp_path)] == [
        ("000000100", 4.0),
        ("000000300", 2.0),
    ]
    make_snapshot(tmp_path, 5)
    assert [s.name for s in read_snapshots(tmp_path)] == ["000000100", "000000300", "teacher"]
    assert [s.num_images for s in read_snapshots(tmp_path)] == [7, 7, 7]


def test_snapshots_measured_in_different_feature_spaces_are_refused(tmp_path: Path) -> None:
    make_snapshot(tmp_path / "snapshots" / "000000100", 1)
    make_snapshot(tmp_path, 2, feature_space="inception")
    with pytest.raises(UserError, match=r"different feature spaces \(inception; a\)"):
        read_snapshots(tmp_path)


def config(num_samples: int, **sweep: Any) -> Config:
    sections = {"generate": {"num_samples": num_samples}, "sweep": sweep}
    return Config.model_validate({"name": "a", **sections})  # 256 synthetic images in a step


def test_pool_sizes_are_quarters_of_quarters_down_to_one_step() -> None:
    assert choose_sizes(config(20_000)) == [312, 1250, 5000, 20_000]
    assert choose_sizes(config(10**8))[0] == 10**8 // 4**4
    assert choose_sizes(config(100)) == [100]
    assert choose_sizes(config(100, pool_sizes=[7, 300])) == [7, 300]


def test_pool_points_end_online() -> None:
    rows = [point.row for point in pool_points(config(100, pool_sizes=[7, 300]))]
    assert rows == ["teacher-pool7", "teacher-pool300", "teacher-online"]


@pytest.mark.parametrize("sizes", [[], [7, 7], [300, 7], [0]])
def test_pool_sizes_that_do_not_rise_are_refused(sizes: list[int]) -> None:
    with pytest.raises(ValueError, match="pool_sizes"):
        config(100, pool_sizes=sizes)

"""A training that is looked at is the training that is not; and what is seen of it."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from pipeline.config.train import TrainConfig
from pipeline.engine.state import load_state
from pipeline.measures.uniformity import uniformity
from pipeline.student.backbone import Normalise, build_backbone, load_backbone
from pipeline.train.data import TrainingShards
from pipeline.train.monitor.measure import Monitor, start_monitor
from pipeline.train.monitor.names import ALIGNMENT, KNN_TOP1, PREFIX, UNIFORMITY
from pipeline.train.monitor.schedule import Schedule
from pipeline.train.monitor.shards import MonitoredReaders
from tests.support.processes import run_workers
from tests.support.tiny_shards import (
    RESOLUTION,
    TRAIN_CONFIG,
    open_reader,
    open_training_shards,
    write_real_shards,
)
from tests.support.trainings import CPU, METHODS, changed, run_training, shards_of

CONFIG = changed(TRAIN_CONFIG, epochs=10, monitor={"every_epochs": 1, "samples": 30})
"""20 steps of 16 images, two lines of metrics."""
STUDENT, METRICS, CHECKPOINT = "student.safetensors", "metrics.jsonl", "checkpoint.pt"
SCHEDULE = Schedule(1, 1, 1, samples=100)


class Killed(Exception):
    pass


def kill(_samples_seen: int, _metrics: dict[str, float]) -> bool:
    raise Killed


@pytest.fixture(scope="module")
def test_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 labelled images."""
    folder = tmp_path_factory.mktemp("test")
    write_real_shards(folder, num_samples=24, seed=1)
    return folder


@pytest.fixture
def readers(training_shards: TrainingShards, test_folder: Path) -> MonitoredReaders:
    return MonitoredReaders(training_shards.real, open_reader(test_folder), True)


def run(
    shards: TrainingShards,
    folder: Path,
    monitored: MonitoredReaders | None,
    config: TrainConfig = CONFIG,
    report: Any = lambda *_: False,
) -> Path:
    folder.mkdir(exist_ok=True)
    run_training(config, shards_of(config, shards), folder, "f", report, monitored)
    return folder


def lines_of(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / METRICS).read_text().splitlines()]


def unmonitored(lines: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{k: v for k, v in line.items() if not k.startswith(PREFIX)} for line in lines]


def assert_same_training(found: Path, expected: Path) -> None:
    """To the last bit: student, networks, optimiser, metrics."""
    assert (found / STUDENT).read_bytes() == (expected / STUDENT).read_bytes()
    first, second = (load_state(folder / CHECKPOINT, CPU) for folder in (found, expected))
    assert first is not None
    assert second is not None
    assert first["samples_seen"] == second["samples_seen"]
    for name in ("method", "optimizer"):
        torch.testing.assert_close(first[name], second[name], rtol=0, atol=0)
    assert unmonitored(lines_of(found)) == unmonitored(lines_of(expected))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "has_labels"),
    [("squeeze and span", True), ("vicreg real", False), ("simsiam both", True)],
)
def test_monitored_training_is_bit_equal_to_one_that_is_not(
    training_shards: TrainingShards,
    readers: MonitoredReaders,
    tmp_path: Path,
    name: str,
    has_labels: bool,
) -> None:
    config = changed(CONFIG, **METHODS[name])
    readers = replace(readers, has_labels=has_labels)
    found = run(training_shards, tmp_path / "monitored", readers, config)
    expected = run(training_shards, tmp_path / "plain", None, config)
    assert_same_training(found, expected)
    names = {KNN_TOP1} if has_labels else {ALIGNMENT, UNIFORMITY}
    for line, plain in zip(lines_of(found), lines_of(expected), strict=True):
        assert line.keys() - plain.keys() == names


@pytest.mark.slow
def test_monitored_training_killed_and_resumed_is_bit_equal_and_sees_the_same(
    training_shards: TrainingShards, readers: MonitoredReaders, tmp_path: Path
) -> None:
    whole = run(training_shards, tmp_path / "whole", readers)
    for _ in range(2):
        with pytest.raises(Killed):
            run(training_shards, tmp_path / "parts", readers, report=kill)
    parts = run(training_shards, tmp_path / "parts", readers)
    assert_same_training(parts, whole)
    assert (parts / METRICS).read_bytes() == (whole / METRICS).read_bytes()
    assert KNN_TOP1 in lines_of(parts)[0]


@pytest.mark.slow
def test_monitored_training_may_be_resumed_without_the_monitor(
    training_shards: TrainingShards, readers: MonitoredReaders, tmp_path: Path
) -> None:
    with pytest.raises(Killed):
        run(training_shards, tmp_path / "run", readers, report=kill)
    off = changed(CONFIG, monitor={"every_epochs": 0})
    found = run(training_shards, tmp_path / "run", readers, off)
    assert_same_training(found, run(training_shards, tmp_path / "plain", None))
    assert not any(name.startswith(PREFIX) for name in lines_of(found)[-1])


def train_twice(folder: Path, test_folder: Path, scratch: Path) -> dict[str, Any]:
    """With a monitor and without; what was reported to this worker."""
    shards, reported = open_training_shards(folder), []
    readers = MonitoredReaders(shards.real, open_reader(test_folder), True)

    def report(_samples_seen: int, metrics: dict[str, float]) -> bool:
        reported.append(metrics.get(KNN_TOP1))
        return False

    for name, monitored in (("monitored", readers), ("plain", None)):
        run(shards, scratch / name, monitored, report=report)
    return {"reported": reported}


@pytest.mark.slow
def test_monitored_training_of_two_workers_is_bit_equal_and_rank_0_tells(
    training_folder: Path, test_folder: Path, tmp_path: Path
) -> None:
    first, second = run_workers(
        tmp_path / "workers", 2, train_twice, training_folder, test_folder, tmp_path
    )
    assert_same_training(tmp_path / "monitored", tmp_path / "plain")
    seen = [line[KNN_TOP1] for line in lines_of(tmp_path / "monitored")]
    assert first["reported"] == [*seen, None, None]
    assert second["reported"] == [None] * 4


def monitor_of(readers: MonitoredReaders, config: TrainConfig = CONFIG) -> Monitor:
    monitor = start_monitor(config, SCHEDULE, readers, RESOLUTION, CPU)
    assert monitor is not None
    return monitor


def test_knn_is_the_vote_of_all_train_images_over_the_test_images(
    readers: MonitoredReaders,
) -> None:
    """Of 40 keys all vote, though 200 may: against a plain vote in float64."""
    backbone = build_backbone(CONFIG.student, 0)
    found = monitor_of(readers).look(backbone)
    vectors, labels = [], []
    assert readers.test is not None
    normalise = Normalise(CONFIG.pixel_mean, CONFIG.pixel_std)
    for reader in (readers.train, readers.test):
        rows = np.arange(len(reader))
        images = torch.from_numpy(reader.gather("image", rows))
        with torch.no_grad():
            vectors.append(F.normalize(backbone.eval()(normalise(images)).double()))
        labels.append(torch.from_numpy(reader.gather("label", rows)))
    votes = ((vectors[1] @ vectors[0].T) / 0.1).exp() @ F.one_hot(labels[0]).double()
    expected = (votes.argmax(1) == labels[1]).double().mean()
    assert found == {KNN_TOP1: pytest.approx(100 * float(expected))}


def test_alignment_and_uniformity_are_of_two_views_the_same_at_every_look(
    readers: MonitoredReaders,
) -> None:
    monitor = monitor_of(replace(readers, has_labels=False))
    backbone = build_backbone(CONFIG.student, 0)
    first, again = monitor.look(backbone), monitor.look(backbone)
    other = monitor.look(build_backbone(CONFIG.student, 1))
    assert first == again != other
    assert first.keys() == {ALIGNMENT, UNIFORMITY}
    assert 0 < first[ALIGNMENT] < 4
    assert -8 < first[UNIFORMITY] < 0


def test_uniformity_alone_of_images_as_they_are(readers: MonitoredReaders) -> None:
    still = changed(CONFIG, augment={"enabled": False})
    backbone = build_backbone(CONFIG.student, 0)
    found = monitor_of(replace(readers, has_labels=False), still).look(backbone)
    images = torch.from_numpy(readers.train.gather("image", np.arange(len(readers.train))))
    normalise = Normalise(CONFIG.pixel_mean, CONFIG.pixel_std)
    with torch.no_grad():
        expected = uniformity(backbone.eval()(normalise(images)))
    assert found == {UNIFORMITY: pytest.approx(expected, rel=1e-4)}


@pytest.mark.parametrize("has_labels", [True, False])
def test_nothing_is_told_of_a_student_that_is_not_finite(
    readers: MonitoredReaders, has_labels: bool
) -> None:
    backbone = build_backbone(CONFIG.student, 0)
    next(backbone.parameters()).data.fill_(math.nan)
    assert monitor_of(replace(readers, has_labels=has_labels)).look(backbone) == {}


def test_no_monitor_without_a_schedule_or_without_images(readers: MonitoredReaders) -> None:
    assert start_monitor(CONFIG, None, readers, RESOLUTION, CPU) is None
    assert start_monitor(CONFIG, SCHEDULE, None, RESOLUTION, CPU) is None


@pytest.mark.slow
def test_the_last_look_is_at_the_student_that_is_kept(
    training_shards: TrainingShards, readers: MonitoredReaders, tmp_path: Path
) -> None:
    asked = changed(CONFIG, monitor={"every_epochs": 1, "samples": 100})
    folder = run(training_shards, tmp_path / "run", readers, asked)
    student = load_backbone(CONFIG.student, folder / STUDENT)
    assert lines_of(folder)[-1][KNN_TOP1] == monitor_of(readers).look(student)[KNN_TOP1]

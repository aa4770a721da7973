"""Training that is killed and goes on, and training that must stop."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torchvision.models.resnet import BasicBlock, ResNet

from pipeline.engine.state import load_state
from pipeline.student.backbone import load_backbone
from pipeline.train.data import TrainingShards
from shards.errors import UserError
from shards.manifest import Manifest, shard_name, write_manifest
from shards.pool import IMAGES, PoolReader
from shards.schema import encode_meta
from shards.storage import Folder
from shards.writer import write_shard
from tests.support.tiny_shards import (
    FEATURE_SET,
    SCHEMAS,
    TRAIN_CONFIG,
    open_pool,
    open_training_shards,
)
from tests.support.trainings import CPU, config_of, open_stream, parts_of, run_training, shards_of

pytestmark = pytest.mark.slow

CONFIG = TRAIN_CONFIG.model_copy(update={"epochs": 10})  # 20 steps of 16 images, two reports
STEPS_PER_REPORT = 10


class Killed(Exception):
    pass


def ignore(_samples_seen: int, _metrics: dict[str, float]) -> bool:
    return False


def kill(_samples_seen: int, _metrics: dict[str, float]) -> bool:
    raise Killed


def run(
    shards: TrainingShards,
    folder: Path,
    fingerprint: str = "f",
    report: Any = ignore,
    **changes: Any,
) -> Path:
    folder.mkdir(exist_ok=True)
    run_training(CONFIG.model_copy(update=changes), shards, folder, fingerprint, report)
    return folder


def run_until_killed(shards: TrainingShards, folder: Path, **changes: Any) -> Path:
    with pytest.raises(Killed):
        run(shards, folder, report=kill, **changes)
    return folder


def read_metrics(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def uninterrupted(training_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("uninterrupted")
    return run(open_training_shards(training_folder), folder)


def assert_same_training(found: Path, expected: Path) -> None:
    for name in ("student.safetensors", "metrics.jsonl"):
        assert (found / name).read_bytes() == (expected / name).read_bytes(), name


def test_train_killed_and_resumed_equals_uninterrupted(
    training_shards: TrainingShards, uninterrupted: Path, tmp_path: Path
) -> None:
    folder = run_until_killed(training_shards, tmp_path / "run")
    assert not (folder / "student.safetensors").exists()
    assert_same_training(run(training_shards, folder), uninterrupted)


def test_train_killed_twice_with_a_torn_metrics_line_equals_uninterrupted(
    training_shards: TrainingShards, uninterrupted: Path, tmp_path: Path
) -> None:
    folder = run_until_killed(training_shards, tmp_path / "run")
    run_until_killed(training_shards, folder)
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"samples_seen": 176, "lo')
    assert_same_training(run(training_shards, folder), uninterrupted)


def test_train_asked_to_save_goes_on_from_there(
    training_shards: TrainingShards, uninterrupted: Path, tmp_path: Path
) -> None:
    def ask_then_kill(samples_seen: int, metrics: dict[str, float]) -> bool:
        return samples_seen == 160 or kill(samples_seen, metrics)

    folder, rare = tmp_path / "run", {"checkpoint_interval_s": 3600.0}
    with pytest.raises(Killed):
        run(training_shards, folder, report=ask_then_kill, **rare)
    state = load_state(folder / "checkpoint.pt", CPU)
    assert state is not None
    assert state["samples_seen"] == 160
    assert_same_training(run(training_shards, folder, **rare), uninterrupted)


def test_train_killed_before_its_first_checkpoint_equals_uninterrupted(
    training_shards: TrainingShards, uninterrupted: Path, tmp_path: Path
) -> None:
    folder = run_until_killed(training_shards, tmp_path / "run", checkpoint_interval_s=3600.0)
    assert not (folder / "checkpoint.pt").exists()
    assert_same_training(run(training_shards, folder), uninterrupted)


def test_train_finished_run_started_again_changes_nothing(
    training_shards: TrainingShards, uninterrupted: Path, tmp_path: Path
) -> None:
    folder = run(training_shards, tmp_path / "run")
    assert_same_training(run(training_shards, folder, report=kill), uninterrupted)


def test_train_metrics_have_one_line_per_report_keyed_by_samples_seen(uninterrupted: Path) -> None:
    lines = read_metrics(uninterrupted)
    assert [line["samples_seen"] for line in lines] == [160, 320]
    assert [line["epoch"] for line in lines] == [5, 10]
    for line in lines:
        assert {"loss", "squeeze_invariance", "span_variance", "synthetic_effective_rank"} < set(
            line
        )
        assert all(math.isfinite(value) for value in line.values())


def test_train_reports_every_logged_step_and_how_long_it_waited_for_rows(
    training_shards: TrainingShards, uninterrupted: Path, tmp_path: Path
) -> None:
    reports: list[dict[str, float]] = []
    run(
        training_shards,
        tmp_path / "run",
        report=lambda seen, metrics: reports.append({"samples_seen": seen, **metrics}),
    )
    shares = [report.pop("loader_wait_share") for report in reports]
    assert all(0 < share < 1 for share in shares)
    assert reports == read_metrics(uninterrupted)


def test_train_moves_the_student_and_depends_on_the_seed(
    training_shards: TrainingShards, uninterrupted: Path, tmp_path: Path
) -> None:
    student = load_file(uninterrupted / "student.safetensors")
    other = load_file(run(training_shards, tmp_path / "run", seed=4) / "student.safetensors")
    assert not torch.equal(student["conv1.weight"], other["conv1.weight"])
    assert student["layer1.0.bn2.weight"].abs().max() > 0


def test_train_exports_the_backbone_under_torchvisions_names(uninterrupted: Path) -> None:
    path = uninterrupted / "student.safetensors"
    names = set(ResNet(BasicBlock, [2, 2, 2, 2]).state_dict())
    assert set(load_file(path)) == names - {"fc.weight", "fc.bias"}
    assert load_backbone(CONFIG.student, path).representation_dim == 64


def write_pool_of(features: np.ndarray, folder: Path) -> PoolReader:
    count, schema = len(features), SCHEMAS[IMAGES]
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (count, *schema.column("image").shape))
    batches = {
        IMAGES: {
            "image": images.astype(np.uint8),
            "meta": encode_meta({"index": index} for index in range(count)),
            "w": np.zeros((count, *schema.column("w").shape), dtype=np.float16),
        },
        FEATURE_SET: {"features": features},
    }
    for name, batch in batches.items():
        place = Folder.at(folder / name)
        shard = write_shard(place, shard_name(0), SCHEMAS[name], 0, [batch])
        write_manifest(place, Manifest(SCHEMAS[name], (shard,)))
    return open_pool(folder)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_train_non_finite_loss_stops_before_the_optimiser_and_keeps_the_last_checkpoint(
    training_shards: TrainingShards, tmp_path: Path, value: float
) -> None:
    features = np.random.default_rng(1).standard_normal(
        (96, *SCHEMAS[FEATURE_SET].column("features").shape)
    ).astype(np.float16)  # fmt: skip
    clean_pool = write_pool_of(features, tmp_path / "clean")
    clean = replace(training_shards, synthetic=clean_pool)
    step = STEPS_PER_REPORT - 1
    stream = open_stream(clean, CONFIG)
    poisoned_row = features.tolist().index(parts_of(stream.batch(step))["pooled"][3].tolist())
    features[poisoned_row, 0] = value
    poisoned_pool = write_pool_of(features, tmp_path / "poisoned")
    poisoned = replace(training_shards, synthetic=poisoned_pool)

    with pytest.raises(UserError, match=rf"step {step}; .*optimizer\.warmup_epochs.*learning_rate"):
        run(poisoned, tmp_path / "run")
    found = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)
    # the same steps on clean features, killed while reporting the step that found the poison
    killed = run_until_killed(clean, tmp_path / "killed")
    expected = torch.load(killed / "checkpoint.pt", weights_only=True)
    assert found["samples_seen"] == step * CONFIG.global_batch
    assert found.pop("fingerprint") == expected.pop("fingerprint")
    assert found.pop("synthetic") == [poisoned_pool.digest]
    assert expected.pop("synthetic") == [clean_pool.digest]
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    assert not (tmp_path / "run" / "student.safetensors").exists()


def origins(folder: Path) -> list[str]:
    state = load_state(folder / "checkpoint.pt", CPU)
    assert state is not None
    return list(state["synthetic"])


def test_train_checkpoint_lists_every_pool_that_its_steps_have_seen(
    training_shards: TrainingShards, tmp_path: Path
) -> None:
    features = np.zeros((40, *SCHEMAS[FEATURE_SET].column("features").shape), np.float16)
    first, second, third = (
        replace(training_shards, synthetic=write_pool_of(features + k, tmp_path / str(k)))
        for k in range(3)
    )
    digests = [shards.synthetic_origins[0] for shards in (first, second, third)]
    folder = run_until_killed(first, tmp_path / "run")
    assert origins(folder) == digests[:1]
    run(second, folder)
    assert origins(folder) == digests[:2]
    run(third, folder)  # is done: it makes no step
    assert origins(folder) == digests[:2]


def test_train_checkpoint_on_real_images_alone_lists_no_pool(
    training_shards: TrainingShards, tmp_path: Path
) -> None:
    config = config_of("vicreg real")
    run_training(config, shards_of(config, training_shards), tmp_path, "f", ignore)
    assert origins(tmp_path) == []


def test_train_checkpoint_of_another_fingerprint_is_refused(
    training_shards: TrainingShards, tmp_path: Path
) -> None:
    folder = run_until_killed(training_shards, tmp_path / "run")
    before = (folder / "checkpoint.pt").read_bytes()
    with pytest.raises(UserError, match=r"checkpoint\.pt.*other settings"):
        run(training_shards, folder, fingerprint="another")
    assert (folder / "checkpoint.pt").read_bytes() == before


@pytest.mark.parametrize("num_bytes", [0, 100, 50_000])
def test_train_truncated_checkpoint_is_named(
    training_shards: TrainingShards, tmp_path: Path, num_bytes: int
) -> None:
    folder = run_until_killed(training_shards, tmp_path / "run")
    path = folder / "checkpoint.pt"
    path.write_bytes(path.read_bytes()[:num_bytes])
    with pytest.raises(UserError, match=r"checkpoint\.pt"):
        run(training_shards, folder)


@pytest.mark.parametrize(("num_real", "steps"), [(50_000, 97), (512, 1), (100, 1), (1024, 2)])
def test_steps_per_epoch_is_the_papers_and_at_least_one(num_real: int, steps: int) -> None:
    config = CONFIG.model_copy(update={"global_batch": 512})
    assert config.steps_per_epoch(num_real) == steps

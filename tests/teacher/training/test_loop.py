"""Teacher training on tiny networks: exact resumption, adaptive augmentation, refusals."""

from __future__ import annotations

import copy
import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.config.teacher import TeacherConfig
from pipeline.engine.state import load_state
from pipeline.teacher.checkpoint import load_discriminator, load_generator
from pipeline.teacher.description import (
    DISCRIMINATOR_FILE,
    GENERATOR_FILE,
    TEACHER_FILE,
    read_teacher_info,
)
from pipeline.teacher.training.loop import log_interval, train_teacher
from pipeline.teacher.training.step import TeacherTrainer
from pipeline.terminal.interrupt import Interrupted
from shards.errors import UserError

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
NUM_REAL = 20
BATCH = 8
CONFIG = TeacherConfig(
    z_dim=8,
    w_dim=8,
    channel_base=64,
    channel_max=8,
    mbstd_group_size=4,
    global_batch=BATCH,
    num_images=6 * BATCH,
    r1_gamma=0.5,
    r1_interval=2,
    ema_images=40,
    ada_images=100,
    ada_interval=1,
    quality_images=0,
)
IMAGES = np.random.default_rng(0).integers(0, 256, (NUM_REAL, 3, 16, 16)).astype(np.uint8)


def create(config: TeacherConfig = CONFIG) -> TeacherTrainer:
    return TeacherTrainer(config, 16, CPU)


def ignore(_position: int, _metrics: dict[str, float]) -> bool:
    return False


def run(trainer: TeacherTrainer, folder: Path, fingerprint: str = "f") -> None:
    folder.mkdir(exist_ok=True)
    train_teacher(
        trainer, lambda rows: IMAGES[rows], NUM_REAL, folder, fingerprint, ignore, {"kind": "test"}
    )


def train(folder: Path, num_steps: int, fingerprint: str = "f", **changes: Any) -> TeacherTrainer:
    trainer = create(CONFIG.model_copy(update={"num_images": num_steps * BATCH, **changes}))
    run(trainer, folder, fingerprint)
    return trainer


def assert_same_state(found: TeacherTrainer, expected: TeacherTrainer) -> None:
    torch.testing.assert_close(found.state_dict(), expected.state_dict(), rtol=0, atol=0)


def test_train_teacher_interrupted_and_resumed_equals_uninterrupted(tmp_path: Path) -> None:
    expected = train(tmp_path / "whole", 6)
    train(tmp_path / "parts", 3)
    found = train(tmp_path / "parts", 6)
    assert found.images_seen == 6 * BATCH
    assert_same_state(found, expected)


def test_train_teacher_stopped_by_a_signal_leaves_a_teacher_and_goes_on_to_the_same_bytes(
    tmp_path: Path,
) -> None:
    train(tmp_path / "whole", 6)
    trainer = create()

    def gather(rows: np.ndarray) -> np.ndarray:
        if trainer.images_seen == 2 * BATCH:
            signal.raise_signal(signal.SIGTERM)
        return IMAGES[rows]

    folder = tmp_path / "stopped"
    folder.mkdir()
    with pytest.raises(Interrupted):
        train_teacher(trainer, gather, NUM_REAL, folder, "f", ignore, {"kind": "test"})
    origin = read_teacher_info(folder).origin
    assert origin == {"kind": "test", "images_seen": 3 * BATCH, "quality": {}}
    short = train(tmp_path / "short", 3)
    for load, network in (
        (load_generator, short.generator_ema),
        (load_discriminator, short.discriminator),
    ):
        torch.testing.assert_close(load(folder).state_dict(), network.state_dict(), rtol=0, atol=0)
    train(folder, 6)
    for name in (GENERATOR_FILE, DISCRIMINATOR_FILE, TEACHER_FILE):
        assert (folder / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_trainer_step_leaves_no_gradients() -> None:
    trainer = create()
    trainer.step(torch.from_numpy(IMAGES[:BATCH]).float() / 127.5 - 1)
    for network in (trainer.generator, trainer.discriminator):
        assert all(parameter.grad is None for parameter in network.parameters())


@pytest.mark.parametrize(("device", "interval"), [("cpu", 10), ("cuda", 100)])
def test_train_teacher_logs_rarely_where_that_waits(device: str, interval: int) -> None:
    assert log_interval(torch.device(device)) == interval


class Gone(Exception):
    """As where a machine is taken away."""


def test_train_teacher_asked_to_save_loses_no_step_before_the_next(tmp_path: Path) -> None:
    reported: list[int] = []

    def ask(images_seen: int, _metrics: dict[str, float]) -> bool:
        reported.append(images_seen)
        return True

    def gather(rows: np.ndarray) -> np.ndarray:
        if reported and trainer.images_seen == reported[0] + BATCH:
            raise Gone
        return IMAGES[rows]

    trainer = create(CONFIG.model_copy(update={"num_images": 20 * BATCH}))
    with pytest.raises(Gone):
        train_teacher(trainer, gather, NUM_REAL, tmp_path, "f", ask, {"kind": "test"})
    state = load_state(tmp_path / "state.pt", CPU, "f")
    assert state is not None
    assert state["images_seen"] == trainer.images_seen == 11 * BATCH


def test_trainer_state_loaded_into_fresh_networks_goes_on_exactly() -> None:
    real = torch.from_numpy(IMAGES[:BATCH]).float() / 127.5 - 1
    first, second = create(), create()
    for _ in range(3):
        first.step(real)
    second.load_state_dict(copy.deepcopy(first.state_dict()))  # as through a file
    assert first.step(real) == second.step(real)
    assert_same_state(second, first)


def test_train_teacher_moves_generator_and_its_average_apart(tmp_path: Path) -> None:
    trainer, fresh = train(tmp_path, 6), create()
    start = fresh.generator.state_dict()["synthesis.b16.conv1.weight"]
    now = trainer.generator.state_dict()["synthesis.b16.conv1.weight"]
    average = trainer.generator_ema.state_dict()["synthesis.b16.conv1.weight"]
    assert (now - start).abs().max() > 0
    assert (average - now).abs().max() > 0
    assert trainer.generator.mapping.w_avg.abs().max() > 0


def test_trainer_fresh_networks_depend_on_the_seed_only() -> None:
    torch.manual_seed(1)
    first = create()
    torch.manual_seed(2)
    assert_same_state(create(), first)
    other = create(CONFIG.model_copy(update={"seed": 1}))
    assert not torch.equal(
        other.generator.synthesis.get_submodule("b4").const,  # type: ignore[arg-type]
        first.generator.synthesis.get_submodule("b4").const,  # type: ignore[arg-type]
    )


def test_train_teacher_state_of_other_settings_is_refused(tmp_path: Path) -> None:
    train(tmp_path, 2)
    before = (tmp_path / "state.pt").read_bytes()
    with pytest.raises(UserError, match=r"state\.pt.*other settings"):
        train(tmp_path, 4, fingerprint="another")
    assert (tmp_path / "state.pt").read_bytes() == before


@pytest.mark.parametrize("num_bytes", [0, 100, 50_000])
def test_train_teacher_truncated_state_is_named(tmp_path: Path, num_bytes: int) -> None:
    train(tmp_path, 2)
    path = tmp_path / "state.pt"
    path.write_bytes(path.read_bytes()[:num_bytes])
    with pytest.raises(UserError, match=r"state\.pt"):
        train(tmp_path, 4)


def test_train_teacher_torn_metrics_line_does_not_stop_a_resumption(tmp_path: Path) -> None:
    train(tmp_path, 2)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"images_seen": 24, "loss_gen')
    train(tmp_path, 4)
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["images_seen"] for line in lines] == [2 * BATCH, 4 * BATCH]


def test_train_teacher_metrics_of_lost_progress_are_cut_back(tmp_path: Path) -> None:
    train(tmp_path, 2)
    line = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({**line, "images_seen": 3 * BATCH}) + "\n")
    train(tmp_path, 4)
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["images_seen"] for line in lines] == [2 * BATCH, 4 * BATCH]


def test_train_teacher_diverging_training_stops_and_leaves_no_state(tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"learning_rate": 1e30})
    with pytest.raises(UserError, match="not finite"):
        run(create(config), tmp_path)
    assert not (tmp_path / "state.pt").exists()


EXTRAS = {
    "path_length_weight": 2.0,
    "path_length_interval": 2,
    "style_mixing_p": 0.5,
    "discriminator_skips": "resnet",
    "ada_pipe": "bgc",
    "ada_interval": 4,
}


def test_train_teacher_with_every_extra_resumes_exactly(tmp_path: Path) -> None:
    expected = train(tmp_path / "whole", 6, **EXTRAS)
    train(tmp_path / "parts", 3, **EXTRAS)
    found = train(tmp_path / "parts", 6, **EXTRAS)
    assert_same_state(found, expected)
    assert found.path_length > 0


def test_train_teacher_snapshots_are_teachers_of_their_moment(tmp_path: Path) -> None:
    train(tmp_path / "whole", 6, snapshot_images=(2 * BATCH, 4 * BATCH - 3))
    found = {p.name: read_teacher_info(p) for p in (tmp_path / "whole" / "snapshots").iterdir()}
    seen = {name: info.origin["images_seen"] for name, info in found.items()}
    assert seen == {"000000016": 2 * BATCH, "000000029": 4 * BATCH}
    early = load_generator(tmp_path / "whole" / "snapshots" / "000000016").state_dict()
    expected = train(tmp_path / "short", 2).generator_ema.state_dict()
    torch.testing.assert_close(early, expected, rtol=0, atol=0)


def test_train_teacher_measures_its_distance_to_the_real_images(tmp_path: Path) -> None:
    train(tmp_path, 6, quality_images=20, quality_interval=2 * BATCH)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    measured = [line for line in lines if "frechet_distance" in line]
    assert [line["images_seen"] for line in measured] == [2 * BATCH, 4 * BATCH, 6 * BATCH]
    quality = read_teacher_info(tmp_path).origin["quality"]
    assert quality["feature_space"] == "random-convnet"
    assert quality["frechet_distance"] == measured[-1]["frechet_distance"] > 0
    assert quality["kernel_distance"] == measured[-1]["kernel_distance"]


def test_train_teacher_leaves_the_average_as_the_teacher(tmp_path: Path) -> None:
    trainer = train(tmp_path, 3)
    expected = trainer.generator_ema.state_dict()
    torch.testing.assert_close(load_generator(tmp_path).state_dict(), expected, rtol=0, atol=0)
    assert read_teacher_info(tmp_path).origin["images_seen"] == 3 * BATCH


def test_trainer_half_precision_stays_near_float32_and_keeps_its_weights_float32() -> None:
    real = torch.from_numpy(IMAGES[:BATCH]).float() / 127.5 - 1
    exact = create().step(real)
    trainer = create(CONFIG.model_copy(update={"precision": "bfloat16"}))
    found = trainer.step(real)
    # bfloat16 has 8 bits; the losses are means over images of sums of hundreds of products
    assert float(found["loss_generator"]) == pytest.approx(float(exact["loss_generator"]), rel=0.05)
    assert float(found["loss_discriminator"]) == pytest.approx(
        float(exact["loss_discriminator"]), rel=0.05
    )
    assert {p.dtype for p in trainer.generator.parameters()} == {torch.float32}
    assert float(found["loss_generator"]) != float(exact["loss_generator"])

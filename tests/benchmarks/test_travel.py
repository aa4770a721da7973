"""States of both trainers, packed on one machine and taken up on another."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.accelerator import travel
from benchmarks.accelerator.travel import grow, pack, shrink, unpack
from pipeline.state import load_state, save_state
from pipeline.teacher.train import TeacherTrainer
from pipeline.teacher_config import TeacherConfig
from pipeline.train.data import TrainingShards
from pipeline.train.step import StudentTrainer
from shards.errors import UserError
from tests.tiny_shards import TRAIN_CONFIG, open_pool, write_pool
from tests.trainings import CPU, make_method, open_stream, run_training

TEACHER = TeacherConfig(
    z_dim=8, w_dim=8, channel_base=64, channel_max=8, mbstd_group_size=4, global_batch=8
)
REAL = torch.from_numpy(np.random.default_rng(0).uniform(-1, 1, (8, 3, 16, 16))).float()


def teacher() -> TeacherTrainer:
    return TeacherTrainer(TEACHER, 16, CPU)


def put_state(runs: Path, run: str = "base", images_seen: int = 24, seed: int = 0) -> Path:
    """A state of a teacher in training, with metrics."""
    trainer = teacher()
    for _ in range(3):
        trainer.step(REAL)
    folder = runs / run / "teacher"
    folder.mkdir(parents=True)
    state = {"fingerprint": "f", **trainer.state_dict(), "images_seen": images_seen}
    save_state(folder / "state.pt", state)
    (folder / "metrics.jsonl").write_text('{"images_seen": 24}\n')
    return folder / "state.pt"


def test_teacher_that_travelled_goes_on_nearly_as_one_that_did_not() -> None:
    stayed, moved = teacher(), teacher()
    for _ in range(3):
        stayed.step(REAL)
    moved.load_state_dict(grow(shrink(copy.deepcopy(stayed.state_dict()))))
    for _ in range(3):
        expected, found = stayed.step(REAL), moved.step(REAL)
        # weights have 11 bits, second moments 8
        assert float(found["loss_generator"]) == pytest.approx(
            float(expected["loss_generator"]), rel=0.01
        )
    assert moved.images_seen == stayed.images_seen


def test_student_that_travelled_goes_on_nearly_as_one_that_did_not(
    training_shards: TrainingShards,
) -> None:
    stream = open_stream(training_shards, TRAIN_CONFIG)

    def create() -> StudentTrainer:
        method = make_method(TRAIN_CONFIG, training_shards.block_channels)
        return StudentTrainer(TRAIN_CONFIG, method, CPU)

    stayed, moved = create(), create()
    for step in range(3):
        stayed.update(stayed.losses(stream.batch(step)), step, epoch=0)
    moved.load_state_dict(grow(shrink(stayed.state_dict())))
    expected, found = (trainer.losses(stream.batch(3)).loss.item() for trainer in (stayed, moved))
    assert found == pytest.approx(expected, rel=0.01)
    moved.update(moved.losses(stream.batch(3)), 3, epoch=0)  # without momentum


def test_shrunk_state_is_less_than_half_and_keeps_vectors_and_large_numbers_exactly() -> None:
    weight, bias, huge = torch.randn(64, 64), torch.randn(64), torch.full((2, 2), 1e6)
    state: dict[str, Any] = {
        "w": weight,
        "b": bias,
        "huge": huge,
        "optimizer": {"state": {0: {"momentum_buffer": weight, "exp_avg_sq": weight.square()}}},
        "clock": 7,
    }
    found = grow(shrink(state))
    torch.testing.assert_close(found["w"], weight, rtol=2**-11, atol=1e-7)
    assert torch.equal(found["b"], bias)
    assert torch.equal(found["huge"], huge)
    assert found["clock"] == 7
    slot = found["optimizer"]["state"][0]
    assert "momentum_buffer" not in slot
    torch.testing.assert_close(slot["exp_avg_sq"], weight.square(), rtol=2**-8, atol=0)
    assert torch.equal(slot["exp_avg"], torch.zeros(64, 64))


def test_packed_state_comes_in_parts_and_is_taken_up_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(travel, "PART_BYTES", 10_000)
    put_state(tmp_path / "here")
    (parcel,) = pack(tmp_path / "here", "base", tmp_path / "out")
    parts = sorted((tmp_path / "out").iterdir())
    assert len(parts) > 2
    assert sum(path.stat().st_size for path in parts) == parcel.num_bytes
    assert all(path.stat().st_size <= 10_000 for path in parts)
    (unpacked,) = unpack(tmp_path / "out", tmp_path / "there")
    assert (unpacked.run, unpacked.stage, unpacked.position) == ("base", "teacher", 24)
    state = load_state(tmp_path / "there/base/teacher/state.pt", CPU, "f")
    assert state is not None
    teacher().load_state_dict(state)
    assert (tmp_path / "there/base/teacher/metrics.jsonl").exists()
    assert "travelled" in (tmp_path / "there/base/journal.jsonl").read_text()


def test_unpack_leaves_a_training_alone_that_is_further(tmp_path: Path) -> None:
    put_state(tmp_path / "here", images_seen=24)
    pack(tmp_path / "here", "base", tmp_path / "out")
    path = put_state(tmp_path / "there", images_seen=48)
    before = path.read_bytes()
    assert list(unpack(tmp_path / "out", tmp_path / "there")) == []
    assert path.read_bytes() == before


def test_student_that_travelled_ends_on_a_pool_rendered_again_and_names_both(
    training_shards: TrainingShards, tmp_path: Path
) -> None:
    class StoppedError(Exception):
        pass

    def stop(*_: object) -> bool:
        raise StoppedError

    config = TRAIN_CONFIG.model_copy(update={"epochs": 10})
    here, there = tmp_path / "here", tmp_path / "there"
    (here / "student" / "train").mkdir(parents=True)
    with pytest.raises(StoppedError):
        run_training(config, training_shards, here / "student" / "train", "f", stop)
    pack(here, "student", tmp_path / "out")
    (parcel,) = unpack(tmp_path / "out", there)
    assert 0 < parcel.position < 20 * config.global_batch
    write_pool(tmp_path / "pool", seed=1)  # other bytes of samples as many
    again = replace(training_shards, synthetic=open_pool(tmp_path / "pool"))
    run_training(config, again, there / "student" / "train", "f", lambda *_: False)
    assert (there / "student" / "train" / "student.safetensors").exists()
    state = load_state(there / "student" / "train" / "checkpoint.pt", CPU, "f")
    assert state is not None
    assert state["samples_seen"] == 20 * config.global_batch
    assert state["synthetic"] == training_shards.synthetic_origins + again.synthetic_origins


@pytest.mark.parametrize("damage", ["missing", "flipped"])
def test_unpack_damaged_parts_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    monkeypatch.setattr(travel, "PART_BYTES", 10_000)
    put_state(tmp_path / "here")
    pack(tmp_path / "here", "base", tmp_path / "out")
    part = tmp_path / "out" / "base.teacher.part1"
    if damage == "missing":
        part.unlink()
    else:
        content = bytearray(part.read_bytes())
        content[500] ^= 1
        part.write_bytes(content)
    with pytest.raises(UserError, match=r"base\.teacher\.part"):
        list(unpack(tmp_path / "out", tmp_path / "there"))
    assert not (tmp_path / "there").exists()

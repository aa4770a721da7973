from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.random_shards import write_random_shards
from benchmarks.speed import roofline
from benchmarks.speed.ceilings import Ceilings, highest, measure_ceilings
from benchmarks.speed.operations import WorkCount, count_work
from benchmarks.speed.roofline_parts import rows_reader, teacher_step
from benchmarks.speed.train_ours import TrainingStep
from pipeline.teacher.training.step import TeacherTrainer
from tests.support.tiny_benchmark import tiny_config

CPU = torch.device("cpu")


@pytest.mark.slow
def test_roofline_at_toy_size_sets_every_part_beside_its_floor(tmp_path: Path) -> None:
    run = roofline.benchmark(tiny_config(), num_samples=40, repeats=1, device=CPU, folder=tmp_path)

    found: dict[str, list[dict[str, Any]]] = {
        table.title: table.by_heading() for table in run.tables
    }
    parts = {row["part"]: row for row in found[roofline.PARTS_TITLE]}
    assert list(parts) == [
        "render, float32",
        "loader: gather (host)",
        "views: draw (host)",
        "views: make",
        "student: step",
        "teacher: step",
        "teacher: with penalties",
    ]
    for row in parts.values():
        floor = max(row["arithmetic ms"], row["memory ms"])
        assert row["ms"] > 0
        assert row["floor %"] == pytest.approx(100 * floor / row["ms"])
    assert parts["teacher: with penalties"]["GFLOP"] > parts["teacher: step"]["GFLOP"]
    for step in ("student: step", "teacher: step"):
        operators = found[step]
        assert len(operators) == 10
        assert sorted((row["ms"] for row in operators), reverse=True) == [
            row["ms"] for row in operators
        ]
        assert any("conv" in row["operator"] for row in operators)


def test_operations_of_a_student_step_are_those_that_torch_counts(tmp_path: Path) -> None:
    config = tiny_config()
    shards = write_random_shards(config, 20, tmp_path)
    step = TrainingStep(config.train, shards, CPU)

    work = count_work(step.run)
    with FlopCounterMode(display=False) as reference:
        step.run()

    assert work.total == reference.get_total_flops()
    parameters = sum(parameter.numel() for parameter in step.method.parameters())
    assert work.num_bytes > 5 * 4 * parameters  # SGD's alone


def test_teacher_step_has_penalties_when_asked_and_updates_both_networks() -> None:
    config = tiny_config()
    trainer = TeacherTrainer(config.teacher, config.real.resolution, CPU)
    ordinary = teacher_step(trainer, config.real.resolution)
    with_penalties = teacher_step(trainer, config.real.resolution, has_penalties=True)
    networks = (trainer.generator, trainer.discriminator)
    before = [[p.clone() for p in network.parameters()] for network in networks]

    work = count_work(ordinary)
    again, penalised = count_work(ordinary), count_work(with_penalties)

    assert again.total == work.total
    assert penalised.total > again.total
    parameters = sum(p.numel() for network in networks for p in network.parameters())
    # weights and Adam's two moments in and out, gradients in; and a counter for each parameter
    assert work.num_bytes > 7 * 4 * parameters
    for network, old in zip(networks, before, strict=True):
        assert any(not torch.equal(p, q) for p, q in zip(network.parameters(), old, strict=True))


def test_reader_takes_as_many_rows_as_a_step(tmp_path: Path) -> None:
    config = tiny_config()
    shards = write_random_shards(config, 20, tmp_path)

    synthetic, pooled, real = rows_reader(shards, config.train)()

    assert len(synthetic) == len(pooled) == config.train.num_synthetic
    assert len(real) == config.train.num_real
    assert pooled.shape[1] == sum(shards.block_channels)


def test_floor_is_the_longer_of_arithmetic_and_memory() -> None:
    ceilings = Ceilings(
        products={"float32": 10.0, "bfloat16": 100.0},
        copies={"device": 1000.0, "host": 10.0, "upload": 1.0},
    )
    work = WorkCount({"float32": 20.0, "bfloat16": 100.0}, num_bytes=500)

    on_device, on_host = ceilings.floor(work), ceilings.floor(work, "host")

    assert (on_device.seconds, on_device.binds) == (3.0, "arithmetic")
    assert (on_host.seconds, on_host.binds) == (50.0, "memory")
    with pytest.raises(KeyError, match="TF32"):
        ceilings.floor(WorkCount({"TF32": 1.0}))


def test_ceilings_of_a_cpu_are_positive_and_the_highest_is_kept() -> None:
    ceilings = Ceilings({"float32": 10.0}, {"device": 1.0, "host": 5.0})
    faster = Ceilings({"float32": 9.0}, {"device": 2.0, "host": 4.0})

    assert highest(ceilings, faster) == Ceilings({"float32": 10.0}, {"device": 2.0, "host": 5.0})
    measured = measure_ceilings(1, CPU)
    assert set(measured.products) == {"float32"}
    assert set(measured.copies) == {"device", "host"}
    assert all(rate > 1e8 for rate in (*measured.products.values(), *measured.copies.values()))

"""When a training is looked at, and at how many images."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.config.train import TrainConfig
from pipeline.train.methods.squeeze_and_span import SqueezeAndSpan
from pipeline.train.methods.vicreg import VicReg
from pipeline.train.monitor.schedule import Schedule, make_schedule


def schedule_of(
    num_epochs: int, epoch_steps: int = 100, side: int = 32, **monitor: Any
) -> Schedule | None:
    """Of VICReg on 256 real and 256 synthetic images a step, two views of each."""
    config = TrainConfig.model_validate({"epochs": num_epochs, "monitor": monitor})
    return make_schedule(config, VicReg, num_epochs * epoch_steps, side)


def looks_of(schedule: Schedule | None, interval: int = 10) -> list[int]:
    """Steps after which it looks."""
    assert schedule is not None
    lines = [*range(interval, schedule.num_steps, interval), schedule.num_steps]
    return [step for step in lines if schedule.is_due(step, interval)]


def test_schedule_is_twenty_looks_of_a_long_run_the_last_at_its_end() -> None:
    assert looks_of(schedule_of(800)) == list(range(4000, 80_001, 4000))


def test_schedule_is_a_look_after_every_epoch_of_fewer_than_twenty() -> None:
    assert looks_of(schedule_of(7)) == [100, 200, 300, 400, 500, 600, 700]


def test_schedule_looks_at_the_first_line_after_it_fell_due() -> None:
    found = looks_of(schedule_of(50), interval=100)
    assert found == [-(-k * 250 // 100) * 100 for k in range(1, 21)]


def test_schedule_of_fewer_lines_than_looks_has_one_at_each() -> None:
    assert looks_of(schedule_of(20), interval=400) == [400, 800, 1200, 1600, 2000]


@pytest.mark.parametrize(
    ("every", "expected"),
    [(1, [100, 200, 300, 400, 500]), (2, [200, 400, 500]), (5, [500]), (9, [500])],
)
def test_schedule_every_so_many_epochs_and_at_the_end(every: int, expected: list[int]) -> None:
    assert looks_of(schedule_of(5, every_epochs=every)) == expected


def test_schedule_of_0_is_none() -> None:
    assert schedule_of(800, every_epochs=0) is None
    assert schedule_of(800, every_epochs=0, samples=100) is None


@pytest.mark.parametrize(("epochs", "epoch_steps"), [(1, 400), (5, 20), (40, 5), (200, 5)])
def test_schedule_takes_at_most_a_hundredth_of_the_passes(epochs: int, epoch_steps: int) -> None:
    schedule = schedule_of(epochs, epoch_steps)
    assert schedule is not None
    views = epochs * epoch_steps * 512 * 2
    passes = len(looks_of(schedule)) * 2 * schedule.samples
    assert passes <= 0.01 * views * 3
    assert schedule.samples >= 50


def test_schedule_looks_more_rarely_rather_than_at_a_handful_of_images() -> None:
    short = schedule_of(20, 1)  # 20,480 views: a hundredth of their passes is 307 pairs
    assert len(looks_of(short, interval=1)) == 6
    assert schedule_of(3, 1) is None


def test_schedule_counts_the_views_that_a_method_makes() -> None:
    config = TrainConfig(epochs=20, global_batch=64)
    assert SqueezeAndSpan.synthetic_views < VicReg.synthetic_views
    few, many = (make_schedule(config, m, 2000, 32) for m in (SqueezeAndSpan, VicReg))
    assert few is not None
    assert many is not None
    assert few.samples < many.samples


def test_schedule_keeps_a_bounded_number_of_pixels() -> None:
    sizes = {}
    for side in (32, 224):
        schedule = schedule_of(800, side=side)
        assert schedule is not None
        sizes[side] = schedule.samples
    assert sizes == {32: 4096, 224: 3566}


def test_schedule_takes_what_is_asked_for_whatever_it_costs() -> None:
    asked = schedule_of(3, 1, samples=9000)
    assert looks_of(asked, interval=1) == [1, 2, 3]
    assert asked is not None
    assert asked.samples == 9000
    often = schedule_of(40, 1, every_epochs=1)
    assert len(looks_of(often, interval=1)) == 40
    assert often is not None
    assert often.samples == 50

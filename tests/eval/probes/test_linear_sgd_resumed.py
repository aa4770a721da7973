"""The paper's linear probe, interrupted or killed and run again: it ends as an undisturbed one."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch

from pipeline.engine.launch import Report
from pipeline.engine.metrics import read_metrics
from pipeline.engine.state import load_state
from pipeline.eval.probes.labelled_views import ProbeImages
from pipeline.eval.probes.linear_head import ProbeSettings
from pipeline.eval.probes.linear_sgd import (
    CHECKPOINT_FILE,
    METRICS_FILE,
    ProbeCurve,
    read_curve,
    train_linear_probe,
)
from pipeline.terminal.interrupt import Interrupted
from shards.errors import UserError
from tests.support.labelled_images import (
    IN_UNITS,
    draw_classes,
    ignore,
    make_images,
    small_resnet,
)
from tests.support.processes import PRELOADED

CPU = torch.device("cpu")
SETTINGS = ProbeSettings(epochs=4, batch=16)
STEPS = [16, 32, 40]
"""Images seen after each step of an epoch."""
MIDDLE = 2 * 40 + 16
"""In the third epoch."""


@pytest.fixture
def images(tmp_path: Path) -> ProbeImages:
    """40 to train on, hard to tell apart."""
    return make_images(tmp_path / "images", draw_classes(40, 0.1, 0), draw_classes(100, 0.1, 1))


class Broken(Exception):
    """Some failure."""


@dataclass(frozen=True)
class Left:
    """What a probe has left in its folder."""

    curve: ProbeCurve
    layer: dict[str, torch.Tensor]
    metrics: list[dict[str, float]]
    """The line after each epoch."""


def run(
    images: ProbeImages,
    folder: Path,
    report: Report = ignore,
    settings: ProbeSettings = SETTINGS,
    fingerprint: str = "f",
    backbone: Any = None,
) -> Left:
    network = small_resnet() if backbone is None else backbone
    curve = train_linear_probe(
        network, images, IN_UNITS, settings, CPU, folder, fingerprint, report
    )
    layer = saved(folder)["head"]["layer"]
    metrics = [row for row in read_metrics(folder / METRICS_FILE) if "top1" in row]
    return Left(curve, layer, metrics)


def saved(folder: Path) -> dict[str, Any]:
    state = load_state(folder / CHECKPOINT_FILE, CPU)
    assert state is not None
    return state


def assert_equal(found: Left, expected: Left) -> None:
    """To the last bit."""
    assert found.curve.top1 == expected.curve.top1
    np.testing.assert_array_equal(found.curve.predictions, expected.curve.predictions)
    assert found.metrics == expected.metrics
    for name, value in expected.layer.items():
        assert torch.equal(found.layer[name], value)


def kill_at(position: int, number: signal.Signals) -> Report:
    """Send this process a signal after the step that ends there."""

    def report(images_seen: int, _metrics: dict[str, float]) -> bool:
        if images_seen == position:
            os.kill(os.getpid(), number)
        return False

    return report


def train_and_be_killed(shards: ProbeImages, folder: Path) -> None:
    """In a process of its own, which this ends."""
    torch.set_num_threads(1)
    run(shards, folder, kill_at(MIDDLE, signal.SIGKILL))


@pytest.mark.parametrize(("optimizer", "rate"), [("sgd", 30), ("lars", 3000)])
def test_probe_interrupted_within_an_epoch_and_resumed_equals_uninterrupted(
    tmp_path: Path, images: ProbeImages, optimizer: Literal["sgd", "lars"], rate: float
) -> None:
    settings = replace(SETTINGS, optimizer=optimizer, learning_rate=rate)
    expected = run(images, tmp_path / "whole", settings=settings)
    assert len(set(expected.curve.top1)) > 1
    with pytest.raises(Interrupted):
        run(images, tmp_path / "parts", kill_at(MIDDLE, signal.SIGTERM), settings)
    assert saved(tmp_path / "parts")["images_seen"] == MIDDLE
    torch.rand(7)  # what was drawn elsewhere does not matter
    assert_equal(run(images, tmp_path / "parts", settings=settings), expected)


@pytest.mark.parametrize("position", [40, 80 + 16, 160])
def test_probe_that_failed_goes_on_from_its_last_epoch(
    tmp_path: Path, images: ProbeImages, position: int
) -> None:
    def fail(images_seen: int, _metrics: dict[str, float]) -> bool:
        seen.append(images_seen)
        if images_seen == position and not failed:
            failed.append(True)
            raise Broken
        return False

    failed: list[bool] = []
    seen: list[int] = []
    expected = run(images, tmp_path / "whole")
    with pytest.raises(Broken):
        run(images, tmp_path / "parts", fail)
    seen.clear()
    assert_equal(run(images, tmp_path / "parts", fail), expected)
    done = (position - 1) // 40  # the report of an epoch's last step comes before it is saved
    assert seen == [40 * epoch + step for epoch in range(done, 4) for step in STEPS]


@pytest.mark.slow
def test_probe_killed_and_run_again_equals_an_undisturbed_one(
    tmp_path: Path, images: ProbeImages
) -> None:
    folder = tmp_path / "parts"
    process = PRELOADED.Process(target=train_and_be_killed, args=(images, folder))
    process.start()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL
    assert saved(folder)["images_seen"] == 2 * 40
    assert_equal(run(images, folder), run(images, tmp_path / "whole"))


def test_probe_saves_the_step_where_the_report_asks_for_it(
    tmp_path: Path, images: ProbeImages
) -> None:
    """As before a host is taken away."""

    def ask(images_seen: int, _metrics: dict[str, float]) -> bool:
        if images_seen == MIDDLE + 16:
            raise Broken
        return images_seen == MIDDLE

    with pytest.raises(Broken):
        run(images, tmp_path / "parts", ask)
    assert saved(tmp_path / "parts")["images_seen"] == MIDDLE
    assert_equal(run(images, tmp_path / "parts"), run(images, tmp_path / "whole"))


def test_finished_probe_is_read_and_not_trained_again(tmp_path: Path, images: ProbeImages) -> None:
    expected = run(images, tmp_path)
    found = read_curve(tmp_path, "f")
    assert found is not None
    assert found.top1 == expected.curve.top1
    np.testing.assert_array_equal(found.predictions, expected.curve.predictions)
    assert found.protocol == SETTINGS.protocol
    again = run(images, tmp_path, backbone=torch.nn.Module())  # which represents nothing
    assert_equal(again, expected)


def test_probe_that_is_not_finished_has_no_curve(tmp_path: Path, images: ProbeImages) -> None:
    assert read_curve(tmp_path, "f") is None
    with pytest.raises(Interrupted):
        run(images, tmp_path, kill_at(MIDDLE, signal.SIGTERM))
    assert read_curve(tmp_path, "f") is None


def test_probe_of_other_settings_is_refused(tmp_path: Path, images: ProbeImages) -> None:
    run(images, tmp_path)
    with pytest.raises(UserError, match="other settings"):
        run(images, tmp_path, fingerprint="g")
    with pytest.raises(UserError, match="other settings"):
        read_curve(tmp_path, "g")


def test_probe_begun_in_another_precision_begins_again(tmp_path: Path, images: ProbeImages) -> None:
    """What `auto` is depends on the hardware, and a number has one protocol."""
    half = replace(SETTINGS, precision=torch.bfloat16)
    with pytest.raises(Interrupted):
        run(images, tmp_path / "parts", kill_at(MIDDLE, signal.SIGTERM))
    found = run(images, tmp_path / "parts", settings=half)
    assert_equal(found, run(images, tmp_path / "whole", settings=half))
    assert "bfloat16" in found.curve.protocol

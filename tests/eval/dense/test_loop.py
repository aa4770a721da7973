"""Fine-tuning that is interrupted and goes on, and what its steps depend on."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.config.finetune import FinetuneConfig
from pipeline.engine.metrics import read_metrics
from pipeline.engine.state import load_state
from pipeline.eval.dense.detection import DetectionTask
from pipeline.eval.dense.feature_maps import freeze
from pipeline.eval.dense.loop import CHECKPOINT_FILE, METRICS_FILE, build_optimizer, train
from pipeline.eval.dense.pixelwise import DenseTask, NormalsTask, SegmentationTask
from pipeline.eval.dense.task import Task
from pipeline.student.backbone import StudentResNet
from pipeline.terminal.interrupt import Interrupted
from shards.errors import UserError
from tests.support.dense_sets import QUICK, SIDE, WRITERS, make_backbone, same_tensors

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
TASKS: dict[str, Any] = {
    "detection": DetectionTask,
    "segmentation": SegmentationTask,
    "normals": NormalsTask,
}
SHORT = {
    **QUICK,
    "steps": 5,
    "batch": 2,
    "smallest_anchor": 16,
    "short_sides": [SIDE - 16, SIDE],
}


def config_of(root: Path, task: str, **changes: Any) -> FinetuneConfig:
    return FinetuneConfig.model_validate({"task": task, "root": root, **SHORT, **changes})


def make_task(config: FinetuneConfig, backbone: StudentResNet | None = None) -> Task[Any]:
    network = make_backbone() if backbone is None else backbone
    freeze(network, config.frozen)
    task: Task[Any] = TASKS[config.task](config, network, (0.5,) * 3, (0.25,) * 3, CPU)
    return task


def ignore(_samples_seen: int, _metrics: dict[str, float]) -> None:
    pass


def run(config: FinetuneConfig, folder: Path, report: Any = ignore) -> dict[str, Tensor]:
    """The network's final state."""
    folder.mkdir(exist_ok=True)
    task = make_task(config)
    train(task, config, folder, CPU, "f", report)
    return task.network.state_dict()


@pytest.fixture(scope="module", params=TASKS)
def root(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A task's set, in a folder called by the task."""
    folder = tmp_path_factory.mktemp("set") / request.param
    WRITERS[request.param](folder)
    return folder


def test_finetuning_interrupted_and_resumed_equals_uninterrupted(
    tmp_path: Path, root: Path
) -> None:
    config = config_of(root, root.name)
    expected = run(config, tmp_path / "whole")

    def interrupt(samples_seen: int, _metrics: dict[str, float]) -> None:
        if samples_seen == 3 * config.batch:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted):
        run(config, tmp_path / "parts", interrupt)
    state = load_state(tmp_path / "parts" / CHECKPOINT_FILE, CPU, "f")
    assert state is not None
    assert state["samples_seen"] == 3 * config.batch
    torch.rand(7)  # what was drawn elsewhere does not matter
    assert same_tensors(run(config, tmp_path / "parts"), expected)
    metrics = [read_metrics(tmp_path / part / METRICS_FILE) for part in ("whole", "parts")]
    assert metrics[0] == metrics[1]
    assert metrics[0][-1]["samples_seen"] == config.steps * config.batch


def test_finetuning_another_seed_gives_other_weights_and_the_same_seed_the_same(
    tmp_path: Path, root: Path
) -> None:
    config = config_of(root, root.name, steps=2)
    first = run(config, tmp_path / "first")
    assert same_tensors(first, run(config, tmp_path / "second"))
    other = run(config.model_copy(update={"seed": 1}), tmp_path / "other")
    assert not same_tensors(first, other)


def test_finetuning_leaves_the_global_generator_alone(tmp_path: Path, root: Path) -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    run(config_of(root, root.name, steps=1), tmp_path / "run")
    assert torch.equal(torch.rand(4), expected)


def test_finetuning_of_other_settings_refuses_the_state(tmp_path: Path, root: Path) -> None:
    config = config_of(root, root.name, steps=1)
    run(config, tmp_path / "run")
    with pytest.raises(UserError, match="other settings"):
        train(make_task(config), config, tmp_path / "run", CPU, "g", ignore)


def test_finetuning_stops_where_the_loss_is_not_finite(tmp_path: Path, root: Path) -> None:
    config = config_of(root, root.name)
    task = make_task(config)
    with torch.no_grad():
        next(p for p in task.network.parameters() if p.requires_grad).fill_(torch.nan)
    with pytest.raises(UserError, match=r"finetune: the loss is not finite at step 0"):
        train(task, config, tmp_path, CPU, "f", ignore)
    assert not (tmp_path / CHECKPOINT_FILE).exists()


def test_finetuning_changes_only_what_is_not_frozen(tmp_path: Path, root: Path) -> None:
    config = config_of(root, root.name, steps=2, frozen="layer2", batch_norm="fixed")
    found = run(config, tmp_path / "run")
    given = make_backbone().state_dict()
    parts = {}
    for name, value in given.items():
        (match,) = [key for key in found if key.endswith(f"body.{name}")] or [None]
        if match is not None and name.endswith("weight"):
            parts[name] = not torch.equal(found[match], value)
    changed = {name for name, is_changed in parts.items() if is_changed}
    assert changed
    assert all(name.startswith(("layer3", "layer4")) for name in changed)
    assert not any(".bn" in name or "downsample.1" in name for name in changed)


@pytest.mark.parametrize("root", ["segmentation", "normals"], indirect=True)
def test_dense_loss_equals_a_plain_loop_over_labelled_pixels(root: Path) -> None:
    task = make_task(config_of(root, root.name))
    assert isinstance(task, DenseTask)
    task.network.eval()
    task.config = config_of(root, root.name, short_sides=[SIDE - 2])  # which needs padding
    batch = task.load(np.array([0, 1]), step=0)
    for label in batch.labels:
        label[:, 20:40, 20:40] = task.no_label
    largest = [max(image.shape[axis] for image in batch.images) for axis in (1, 2)]
    height, width = (-(-side // task.multiple) * task.multiple for side in largest)
    canvas = torch.zeros(2, 3, height, width)
    for row, image in enumerate(batch.images):
        canvas[row, :, : image.shape[1], : image.shape[2]] = (image / 255 - 0.5) / 0.25
    scores = task.network(canvas).log_softmax(1).detach()
    steps = height // scores.shape[2], width // scores.shape[3]
    losses, num_left_out = [], 0
    for row, label in enumerate(batch.labels):
        for i in range(scores.shape[2]):
            for j in range(scores.shape[3]):
                y, x = i * steps[0] + steps[0] // 2, j * steps[1] + steps[1] // 2
                is_inside = y < label.shape[1] and x < label.shape[2]
                found = _class_of(task, label[:, y, x]) if is_inside else -1
                if found >= 0:
                    losses.append(-float(scores[row, found, i, j]))
                num_left_out += found < 0
    assert num_left_out
    assert float(task.loss(batch).detach()) == pytest.approx(np.mean(losses), rel=1e-5)


def _class_of(task: DenseTask, label: Tensor) -> int:
    if isinstance(task, SegmentationTask):
        return int(label)
    assert isinstance(task, NormalsTask)
    if not label.any():
        return -1
    distances = [float((direction - label).norm()) for direction in task.directions]
    return int(np.argmin(distances))


@pytest.mark.parametrize("root", ["segmentation", "normals"], indirect=True)
def test_dense_predictions_are_the_mean_of_those_at_each_size(root: Path) -> None:
    both = make_task(config_of(root, root.name, test_sides=[48, 64]))
    assert isinstance(both, DenseTask)
    example = both.train[0]
    both.network.eval()
    parts = []
    for side in (48, 64):
        one = make_task(config_of(root, root.name, test_sides=[side]))
        assert isinstance(one, DenseTask)
        one.network.eval()
        parts.append(one.predict(example))
    found = both.predict(example)
    torch.testing.assert_close(found, (parts[0] + parts[1]) / 2)
    torch.testing.assert_close(found.sum(0), torch.ones_like(found[0]))
    assert found.shape[1:] == (example.image.height, example.image.width)
    assert not torch.allclose(parts[0], parts[1])


def test_optimizer_decays_biases_and_normalisation_of_detection_only(root: Path) -> None:
    config = config_of(root, root.name, frozen="layer2", weight_decay=0.5)
    network = make_task(config).network
    names = {parameter: name for name, parameter in network.named_parameters()}
    groups = build_optimizer(network, config, root.name == "detection").param_groups
    decay = {names[p]: group["weight_decay"] for group in groups for p in group["params"]}
    assert decay.keys() == {n for n, p in network.named_parameters() if p.requires_grad}
    for name, parameter in network.named_parameters():
        if name in decay:
            is_kernel = name.endswith("weight") and parameter.ndim > 1
            assert decay[name] == (0.5 if is_kernel or root.name == "detection" else 0.0)


def test_finetuning_in_half_precision_is_close_to_float32(tmp_path: Path, root: Path) -> None:
    config = config_of(root, root.name, steps=1)
    losses = []
    for precision in ("float32", "bfloat16"):
        folder = tmp_path / precision
        run(config.model_copy(update={"precision": precision}), folder)
        losses.append(read_metrics(folder / METRICS_FILE)[0]["loss"])
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=0.05)

"""The paper's linear probe on images whose answer is known, and against a plain loop."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pipeline.engine.launch import Report
from pipeline.eval.probes.labelled_views import ProbeImages
from pipeline.eval.probes.linear_head import (
    LARGE_BATCH,
    LinearHead,
    ProbeSettings,
    learning_rate,
)
from pipeline.eval.probes.linear_sgd import ProbeCurve, train_linear_probe
from shards.errors import UserError
from tests.support.labelled_images import (
    IN_UNITS,
    NUM_CLASSES,
    SIDE,
    as_they_are,
    draw_classes,
    ignore,
    make_images,
    small_resnet,
)
from tests.support.reference_head import ReferenceHead

CPU = torch.device("cpu")
QUICK = ProbeSettings(epochs=5, batch=16)


class Identity(nn.Module):
    """An image is its own representation; keeps all that it has seen."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def forward(self, images: Tensor) -> Tensor:
        features = images.flatten(1)
        self.seen.append(features)
        return features


def run(
    images: ProbeImages,
    settings: ProbeSettings = QUICK,
    backbone: nn.Module | None = None,
    seed: int = 0,
    report: Report = ignore,
) -> ProbeCurve:
    """From the beginning to the end."""
    network = Identity() if backbone is None else backbone
    settings = replace(settings, seed=seed)
    with TemporaryDirectory() as folder:
        return train_linear_probe(
            network, images, IN_UNITS, settings, CPU, Path(folder), "f", report
        )


@pytest.mark.parametrize("optimizer", ["sgd", "lars"])
def test_train_linear_probe_equals_a_plain_loop_over_what_the_backbone_saw(
    tmp_path: Path, optimizer: Literal["sgd", "lars"]
) -> None:
    settings = ProbeSettings(
        epochs=4, batch=8, learning_rate=3.0, optimizer=optimizer, augment=as_they_are()
    )
    pixels, labels = draw_classes(20, 0.2, 0)
    test, test_labels = draw_classes(50, 0.2, 1)
    backbone = Identity()
    curve = run(make_images(tmp_path, (pixels, labels), (test, test_labels)), settings, backbone)

    test_features, *batches = (features.numpy() for features in backbone.seen)
    np.testing.assert_allclose(test_features * 255, test.reshape(50, -1), rtol=0, atol=1e-4)
    start = LinearHead(test_features.shape[1], NUM_CLASSES, optimizer, seed=0)
    reference = ReferenceHead(start.layer, optimizer)
    row_of = {image.tobytes(): row for row, image in enumerate(pixels)}
    assert len(row_of) == len(pixels)
    assert [len(batch) for batch in batches] == [8, 8, 4] * 4
    expected = []
    for epoch in range(4):
        rate = 3.0 * 8 / 256 * (1 + math.cos(math.pi * epoch / 4)) / 2
        rows_seen = []
        for batch in batches[3 * epoch : 3 * epoch + 3]:
            rows = [row_of[(image * 255).round().astype(np.uint8).tobytes()] for image in batch]
            reference.update(batch, [int(labels[row]) for row in rows], rate)
            rows_seen += rows
        assert sorted(rows_seen) == list(range(20))
        predicted = reference.classify(test_features)
        expected.append(100 * float(np.mean(predicted == test_labels)))
    assert curve.top1 == pytest.approx(expected, abs=1e-9)
    np.testing.assert_array_equal(curve.predictions, predicted)


def test_train_linear_probe_separable_classes_score_near_100(tmp_path: Path) -> None:
    images = make_images(tmp_path, draw_classes(120, 1, 0), draw_classes(120, 1, 1))
    curve = run(images, replace(QUICK, epochs=10))
    assert curve.last >= 98


def test_train_linear_probe_shuffled_labels_score_near_chance(tmp_path: Path) -> None:
    pixels, labels = draw_classes(200, 0, 0)
    images = make_images(tmp_path, (pixels, labels), draw_classes(800, 0, 1))
    curve = run(images)
    # standard error of 800 throws with p = 1/4 is 1.5 points; one bias for all would give as much
    assert abs(curve.last - 25) < 7


def test_train_linear_probe_lars_on_a_batch_larger_than_the_set_learns(tmp_path: Path) -> None:
    images = make_images(tmp_path, draw_classes(60, 1, 0), draw_classes(120, 1, 1))
    settings = replace(LARGE_BATCH, augment=as_they_are(), learning_rate=10.0)
    backbone = Identity()
    curve = run(images, settings, backbone)
    assert [len(batch) for batch in backbone.seen[1:]] == [60] * 90
    assert len(curve.top1) == 90
    assert curve.last >= 90


def test_train_linear_probe_batch_of_thousands_passes_the_backbone_in_parts(tmp_path: Path) -> None:
    images = make_images(tmp_path, draw_classes(1100, 1, 0), draw_classes(10, 1, 1))
    backbone = Identity()
    run(images, ProbeSettings(epochs=1, batch=4096), backbone)
    parts = [len(batch) for batch in backbone.seen[1:]]
    assert sum(parts) == 1100
    assert max(parts) <= 512


def test_train_linear_probe_result_is_the_last_epochs_not_the_best(
    tmp_path: Path,
) -> None:
    test_labels = draw_classes(100, 0.1, 1)[1]
    images = make_images(tmp_path, draw_classes(60, 0.1, 0), draw_classes(100, 0.1, 1))
    curve = run(images)
    assert len(curve.top1) == 5
    assert curve.last == curve.top1[-1] == 100 * np.mean(curve.predictions == test_labels)
    falling = replace(curve, top1=(40.0, 80.0, 70.0))
    assert falling.last == 70


def test_train_linear_probe_leaves_weights_and_running_statistics_alone(tmp_path: Path) -> None:
    images = make_images(tmp_path, draw_classes(24, 1, 0))
    network = small_resnet().train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    run(images, replace(QUICK, epochs=2), network)
    torch.testing.assert_close(dict(network.state_dict()), before, rtol=0, atol=0)
    assert all(parameter.grad is None for parameter in network.parameters())


def test_train_linear_probe_is_a_function_of_the_seed_alone(tmp_path: Path) -> None:
    images = make_images(tmp_path, draw_classes(60, 0.1, 0), draw_classes(200, 0.1, 1))
    curves = []
    for seed, elsewhere in ((0, 1), (0, 2), (1, 1)):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(elsewhere)
            state = torch.get_rng_state()
            curves.append(run(images, backbone=small_resnet(), seed=seed))
            assert torch.equal(torch.get_rng_state(), state)
    assert curves[0].top1 == curves[1].top1
    np.testing.assert_array_equal(curves[0].predictions, curves[1].predictions)
    assert curves[0].top1 != curves[2].top1


def test_train_linear_probe_shows_crops_and_flips_of_the_train_images_only(tmp_path: Path) -> None:
    """A flat image is the same in every crop; a slope keeps its colours and changes its course."""
    flat = np.broadcast_to(np.array([10, 90, 200])[:, None, None], (3, SIDE, SIDE))
    slope = np.broadcast_to(np.arange(SIDE) * 30, (3, SIDE, SIDE))
    pixels = np.stack([flat, slope]).astype(np.uint8)
    backbone = Identity()
    settings = ProbeSettings(epochs=40, batch=2)
    run(make_images(tmp_path, (pixels, np.array([0, 1]))), settings, backbone)
    test, *views = (seen.unflatten(1, (3, SIDE, SIDE)) for seen in backbone.seen)
    torch.testing.assert_close(test, torch.from_numpy(pixels).float() / 255, rtol=0, atol=1e-6)
    num_flipped = 0
    for batch in views:
        colours = batch[:, 1] - batch[:, 0]
        is_slope = colours.abs().amax((1, 2)) < 1e-6
        assert is_slope.sum() == 1
        torch.testing.assert_close(batch[~is_slope][0], test[0], rtol=0, atol=1e-5)
        row = batch[is_slope][0, 0, 0]
        steps = row.diff()[1:-1]
        assert float(steps.abs().max()) <= 30 / 255 + 1e-5  # a crop is enlarged, never shrunk
        num_flipped += bool(row[-1] < row[0])
    assert 8 < num_flipped < 32  # of 40; beyond that, 1 in 5,000 fair ones


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_train_linear_probe_precision_is_that_of_the_backbone_alone(
    tmp_path: Path, precision: torch.dtype
) -> None:
    class Projection(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            generator = torch.Generator().manual_seed(0)
            self.weight = nn.Parameter(torch.randn(16, 3 * SIDE**2, generator=generator))
            self.types: set[torch.dtype] = set()

        def forward(self, images: Tensor) -> Tensor:
            assert not torch.is_grad_enabled()
            features = nn.functional.linear(images.flatten(1), self.weight)
            self.types.add(features.dtype)
            return features

    images = make_images(tmp_path, draw_classes(100, 1, 0), draw_classes(200, 1, 1))
    backbone = Projection()
    curve = run(images, ProbeSettings(epochs=15, batch=16, precision=precision), backbone)
    assert backbone.types == {precision}
    assert curve.last >= 95


def test_train_linear_probe_predicts_labels_that_occur_in_training(tmp_path: Path) -> None:
    pixels, labels = draw_classes(60, 1, 0)
    names = np.array([3, 7, 11, 5000])
    test, test_labels = draw_classes(60, 1, 1)
    images = make_images(tmp_path, (pixels, names[labels]), (test, names[test_labels]))
    curve = run(images, replace(QUICK, epochs=10))
    assert curve.predictions.dtype == np.int64
    assert set(curve.predictions) <= set(names)
    assert curve.last >= 95


def test_train_linear_probe_reports_every_step_and_top1_after_each_epoch(tmp_path: Path) -> None:
    images = make_images(tmp_path, draw_classes(20, 1, 0))
    seen: list[tuple[int, dict[str, float]]] = []

    def report(images_seen: int, metrics: dict[str, float]) -> bool:
        seen.append((images_seen, metrics))
        return False

    settings = ProbeSettings(epochs=2, batch=8)
    curve = run(images, settings, report=report)
    assert [position for position, _ in seen] == [8, 16, 20, 28, 36, 40]
    after_epochs = [(position, metrics) for position, metrics in seen if "top1" in metrics]
    assert after_epochs == [
        (20, {"top1": curve.top1[0], "learning_rate": learning_rate(settings, 0)}),
        (40, {"top1": curve.top1[1], "learning_rate": learning_rate(settings, 1)}),
    ]


@pytest.mark.parametrize("split", ["train", "test"])
def test_train_linear_probe_representation_that_is_not_finite_is_one_line(
    tmp_path: Path, split: str
) -> None:
    class Broken(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            is_test = len(images) == 20
            value = math.nan if is_test == (split == "test") else 1.0
            return torch.full((len(images), 3), value)

    images = make_images(tmp_path, draw_classes(20, 1, 0))
    with pytest.raises(UserError, match=r"not finite.*train\.learning_rate") as caught:
        run(images, backbone=Broken())
    assert "\n" not in str(caught.value)

"""Mean IoU and angular errors against plain loops over pixels."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torchmetrics.classification import MulticlassJaccardIndex

from pipeline.eval.dense.angular_error import AngularError
from pipeline.eval.dense.mean_iou import MeanIoU

CPU = torch.device("cpu")
NUM_CLASSES = 6


def draw_classes(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Predicted and labelled classes of three images; class 5 is in neither, some have no label."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(-1, 5, (3, 9, 11))
    is_right = generator.random(labels.shape) < 0.6
    predicted = np.where(is_right, labels.clip(0), generator.integers(0, 5, labels.shape))
    return torch.from_numpy(predicted), torch.from_numpy(labels)


@pytest.mark.parametrize("seed", range(3))
def test_mean_iou_equals_plain_loops_and_torchmetrics(seed: int) -> None:
    predicted, labels = draw_classes(seed)
    scores = MeanIoU(NUM_CLASSES, CPU)
    for image in range(3):
        scores.add(predicted[image], labels[image])
    columns = predicted.flatten().tolist(), labels.flatten().tolist()
    pairs = [(p, w) for p, w in zip(*columns, strict=True) if w >= 0]
    ious = []
    for one in range(5):
        both = sum(p == w == one for p, w in pairs)
        either = sum(one in (p, w) for p, w in pairs)
        ious.append(both / either)
    found = scores.compute()
    assert found["mean_iou"] == pytest.approx(np.mean(ious))
    assert found["pixel_accuracy"] == pytest.approx(100 * np.mean([p == w for p, w in pairs]))
    theirs = MulticlassJaccardIndex(NUM_CLASSES, ignore_index=-1)
    assert found["mean_iou"] == pytest.approx(float(theirs(predicted, labels)), rel=1e-6)


def test_mean_iou_without_labels_is_0() -> None:
    scores = MeanIoU(NUM_CLASSES, CPU)
    scores.add(torch.zeros(2, 2, dtype=torch.int64), torch.full((2, 2), -1))
    assert scores.compute() == {"mean_iou": 0.0, "pixel_accuracy": 0.0}


def angle(first: list[float], second: list[float]) -> float:
    lengths = [math.sqrt(sum(x * x for x in vector)) for vector in (first, second)]
    cosine = sum(a * b for a, b in zip(first, second, strict=True)) / lengths[0] / lengths[1]
    return math.degrees(math.acos(max(-1.0, min(1.0, cosine))))


@pytest.mark.parametrize("num_unknown", [0, 7])
def test_angular_error_equals_plain_loops(num_unknown: int) -> None:
    generator = torch.Generator().manual_seed(num_unknown)
    normals = torch.randn(2, 3, 8, 9, generator=generator)
    predicted = 3 * normals + torch.randn(2, 3, 8, 9, generator=generator)
    normals[0].flatten(1)[:, :num_unknown] = 0
    scores = AngularError(CPU)
    for image in range(2):
        scores.add(predicted[image], normals[image])
    columns = [part.permute(0, 2, 3, 1).reshape(-1, 3).tolist() for part in (predicted, normals)]
    angles = [angle(p, n) for p, n in zip(*columns, strict=True) if any(n)]
    assert len(angles) == 2 * 72 - num_unknown
    found = scores.compute()
    assert found["mean_deg"] == pytest.approx(np.mean(angles), rel=1e-6)
    low, high = np.percentile(angles, [50, 50], method="lower"), np.median(angles)
    assert low[0] - 1e-3 <= found["median_deg"] <= high + 1e-3
    for limit in (11.25, 22.5, 30):
        expected = 100 * np.mean([one < limit for one in angles])
        assert found[f"within_{limit:g}_deg"] == pytest.approx(expected)


def test_angular_error_of_the_same_and_of_opposite_vectors() -> None:
    scores = AngularError(CPU)
    up = torch.tensor([0.0, 0.0, 1.0])[:, None, None].expand(3, 2, 2)
    scores.add(5 * up, up)
    assert scores.compute()["mean_deg"] == 0
    assert scores.compute()["within_11.25_deg"] == 100
    opposite = AngularError(CPU)
    opposite.add(-up, up)
    assert opposite.compute()["mean_deg"] == 180
    assert opposite.compute()["median_deg"] == pytest.approx(180, abs=1e-3)


def test_angular_error_without_normals_is_0() -> None:
    scores = AngularError(CPU)
    scores.add(torch.ones(3, 2, 2), torch.zeros(3, 2, 2))
    assert set(scores.compute().values()) == {0.0}

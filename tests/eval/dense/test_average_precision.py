"""Average precision against VOC's rule written as plain loops, and on cases worked by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipeline.eval.dense.average_precision import (
    AveragePrecision,
    Detections,
    Interpolation,
    Objects,
)

Box = tuple[float, float, float, float]
Image = tuple[list[tuple[int, float, Box]], list[tuple[int, bool, Box]]]
"""Detections (label, score, box), and objects (label, difficult, box)."""


def overlap(first: Box, second: Box) -> float:
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    both = max(width, 0) * max(height, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    return both / (sum(areas) - both)


def reference_ap(images: list[Image], label: int, least: float, is_11_points: bool) -> float:
    """The devkit's loop: detections by falling score, each tried on its best object only."""
    found = [
        (score, index, box)
        for index, (detections, _) in enumerate(images)
        for one, score, box in detections
        if one == label
    ]
    num_objects = sum(
        one == label and not difficult for _, objects in images for one, difficult, _ in objects
    )
    taken, true, false = set(), 0, 0
    curve = []
    for _, index, box in sorted(found, key=lambda detection: -detection[0]):
        objects = [(k, o) for k, o in enumerate(images[index][1]) if o[0] == label]
        best = max(objects, key=lambda item: overlap(box, item[1][2]), default=None)
        if best is None or overlap(box, best[1][2]) <= least:
            false += 1
        elif not best[1][1] and (index, best[0]) not in taken:
            taken.add((index, best[0]))
            true += 1
        elif not best[1][1]:
            false += 1
        curve.append((true / num_objects, true / max(true + false, 1)))
    if is_11_points:
        tops = [max((p for r, p in curve if r >= k / 10), default=0.0) for k in range(11)]
        return sum(tops) / 11
    area, last = 0.0, 0.0
    for position, (recall, _) in enumerate(curve):
        area += (recall - last) * max(p for _, p in curve[position:])
        last = recall
    return area


def score(images: list[Image], interpolation: Interpolation = "11 points") -> dict[str, float]:
    scores = AveragePrecision()
    for detections, objects in images:
        scores.add(
            Detections(
                torch.tensor([box for *_, box in detections]).reshape(-1, 4),
                torch.tensor([one for one, *_ in detections], dtype=torch.int64),
                torch.tensor([value for _, value, _ in detections]),
            ),
            Objects(
                torch.tensor([box for *_, box in objects]).reshape(-1, 4),
                torch.tensor([one for one, *_ in objects], dtype=torch.int64),
                torch.tensor([hard for _, hard, _ in objects], dtype=torch.bool),
            ),
        )
    return scores.compute(interpolation)


def draw_images(seed: int) -> list[Image]:
    """Objects, detections near some of them, and others anywhere; boxes have whole corners."""
    generator = np.random.default_rng(seed)

    def draw_box() -> Box:
        left, top = generator.integers(0, 40, 2)
        width, height = generator.integers(6, 20, 2)
        return float(left), float(top), float(left + width), float(top + height)

    images = []
    for _ in range(8):
        labels = generator.integers(1, 4, generator.integers(0, 5)).tolist()
        objects = [(label, bool(generator.random() < 0.25), draw_box()) for label in labels]
        found = []
        for label, _, box in [*objects, *objects]:
            moved = tuple(np.array(box) + generator.integers(-3, 4, 4))
            found.append((label, float(generator.random()), moved))
        found += [
            (int(generator.integers(1, 4)), float(generator.random()), draw_box()) for _ in range(3)
        ]
        images.append((found, objects))
    return images


@pytest.mark.parametrize("interpolation", ["11 points", "area"])
@pytest.mark.parametrize("seed", range(5))
def test_average_precision_equals_the_plain_loops(seed: int, interpolation: Interpolation) -> None:
    images = draw_images(seed)
    is_11_points = interpolation == "11 points"
    expected = {
        percent: np.mean(
            [reference_ap(images, label, percent / 100, is_11_points) for label in (1, 2, 3)]
        )
        for percent in range(50, 100, 5)
    }
    found = score(images, interpolation)
    assert found["AP50"] == pytest.approx(100 * expected[50])
    assert found["AP75"] == pytest.approx(100 * expected[75])
    assert found["AP"] == pytest.approx(100 * np.mean(list(expected.values())))
    assert found["AP50"] > found["AP"] > 0


BOX: Box = (10, 10, 30, 30)
FAR: Box = (40, 40, 60, 60)


def test_average_precision_of_perfect_detections_is_100() -> None:
    assert score([([(1, 0.9, BOX)], [(1, False, BOX)])]) == {"AP": 100, "AP50": 100, "AP75": 100}


def test_average_precision_without_detections_or_objects_is_0() -> None:
    assert set(score([([], [(1, False, BOX)])]).values()) == {0.0}
    assert set(score([([(1, 0.9, BOX)], [])]).values()) == {0.0}


def test_average_precision_an_object_is_found_once_and_a_difficult_one_not_counted() -> None:
    twice = [(1, 0.9, BOX), (1, 0.8, BOX), (1, 0.7, FAR)]
    both = [(1, False, BOX), (1, False, FAR)]
    # precision 1, 1/2, 2/3 at recalls 1/2, 1/2, 1
    assert score([(twice, both)], "area")["AP50"] == pytest.approx(100 * (0.5 + 0.5 * 2 / 3))
    hard = [(1, True, BOX), (1, False, FAR)]
    assert score([(twice, hard)], "area")["AP50"] == pytest.approx(100)


def test_average_precision_another_class_or_image_is_no_match() -> None:
    assert score([([(2, 0.9, BOX)], [(1, False, BOX)])])["AP50"] == 0
    assert score([([(1, 0.9, BOX)], []), ([], [(1, False, BOX)])])["AP50"] == 0

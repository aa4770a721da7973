"""Average precision of detections as detectron2 measures it on PASCAL VOC, the rule behind the
paper's Table 4: VOC's own matching (Everingham et al. 2010), averaged over overlaps of 0.5 to 0.95.

Not COCO's: there a detection may take the second best object that is still free, objects are not
"difficult", and precision is read at 101 recalls. torchmetrics has only that one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torchvision.ops import box_iou

OVERLAPS = tuple(percent / 100 for percent in range(50, 100, 5))
Interpolation = Literal["11 points", "area"]


@dataclass(frozen=True)
class Objects:
    """What an image shows."""

    boxes: torch.Tensor
    """[N, 4] float32: left, top, right, bottom."""
    labels: torch.Tensor
    """[N] int64."""
    difficult: torch.Tensor
    """[N] bool: not to be found, but no mistake if found."""


@dataclass(frozen=True)
class Detections:
    """What a detector found in it; fields as those of `Objects`."""

    boxes: torch.Tensor
    labels: torch.Tensor
    scores: torch.Tensor
    """[N] float32."""


class AveragePrecision:
    """Gathers images and scores them."""

    def __init__(self) -> None:
        self._num_objects: dict[int, int] = {}
        """To be found, by class."""
        self._found: dict[int, list[np.ndarray]] = {}
        """By class, float64 [N, 4]: score, best object's overlap, its number, is it difficult."""
        self._next_number = 0

    def add(self, found: Detections, objects: Objects) -> None:
        """Account for one image; tensors on the CPU."""
        for label in objects.labels.unique().tolist():
            is_wanted = (objects.labels == label) & ~objects.difficult
            self._num_objects[label] = self._num_objects.get(label, 0) + int(is_wanted.sum())
        for label in found.labels.unique().tolist():
            chosen, of_class = found.labels == label, objects.labels == label
            rows = np.zeros((int(chosen.sum()), 4))
            rows[:, 0] = found.scores[chosen].double().numpy()
            if of_class.any():
                overlaps = box_iou(found.boxes[chosen].double(), objects.boxes[of_class].double())
                best, index = overlaps.max(1)
                rows[:, 1] = best.numpy()
                rows[:, 2] = self._next_number + index.numpy()
                rows[:, 3] = objects.difficult[of_class][index].numpy()
                self._next_number += int(of_class.sum())
            self._found.setdefault(label, []).append(rows)

    def compute(self, interpolation: Interpolation = "11 points") -> dict[str, float]:
        """`AP`, the mean over classes and overlaps, `AP50` and `AP75`; in percent.

        Classes without an object to be found are left out; without any, all are 0.

        Args:
            interpolation: of the precision over recall: VOC2007's, or VOC2012's area.
        """
        classes = [label for label, count in self._num_objects.items() if count]
        means = [
            float(np.mean([self._score(label, overlap, interpolation) for label in classes] or [0]))
            for overlap in OVERLAPS
        ]
        at = dict(zip(OVERLAPS, means, strict=True))
        scores = {"AP": float(np.mean(means)), "AP50": at[0.5], "AP75": at[0.75]}
        return {name: 100 * value for name, value in scores.items()}

    def _score(self, label: int, overlap: float, interpolation: Interpolation) -> float:
        rows = np.concatenate(self._found.get(label, [np.zeros((0, 4))]))
        rows = rows[np.argsort(-rows[:, 0], kind="stable")]
        overlaps_one, is_difficult = rows[:, 1] > overlap, rows[:, 3] > 0
        hits = np.flatnonzero(overlaps_one & ~is_difficult)
        _, first = np.unique(rows[hits, 2], return_index=True)  # an object is found once
        is_true = np.zeros(len(rows), dtype=bool)
        is_true[hits[first]] = True
        is_false = ~is_true & ~(overlaps_one & is_difficult)
        true, false = is_true.cumsum(), is_false.cumsum()
        recall = true / self._num_objects[label]
        precision = true / np.maximum(true + false, 1)
        return _interpolate(recall, precision, interpolation)


def _interpolate(recall: np.ndarray, precision: np.ndarray, interpolation: Interpolation) -> float:
    """Mean of the best precision at a recall or above: at 0, 0.1 … 1, or over all recalls."""
    best = np.maximum.accumulate(precision[::-1])[::-1]
    if interpolation == "11 points":
        places = np.searchsorted(recall, np.arange(11) / 10)
        return float(np.mean(np.append(best, 0.0)[places]))
    return float(np.sum(np.diff(recall, prepend=0.0) * best))

"""Intersection over union of classes, of all pixels of a test set together."""

from __future__ import annotations

import torch
from torch import Tensor


class MeanIoU:
    """Gathers predicted and labelled pixels in a confusion matrix on `device`."""

    def __init__(self, num_classes: int, device: torch.device) -> None:
        self._num_classes = num_classes
        self._confusion = torch.zeros(num_classes**2, dtype=torch.int64, device=device)

    def add(self, predicted: Tensor, labels: Tensor) -> None:
        """Account for one image: classes int64 [H, W]; labels of -1 do not count."""
        is_labelled = labels >= 0
        pairs = labels[is_labelled] * self._num_classes + predicted[is_labelled]
        self._confusion += torch.bincount(pairs, minlength=self._num_classes**2)

    def compute(self) -> dict[str, float]:
        """`mean_iou`, the mean over the classes that are labelled or predicted anywhere, in [0, 1]
        as in the paper, and `pixel_accuracy`, in percent.
        """
        confusion = self._confusion.reshape(self._num_classes, -1).double().cpu()
        hits = confusion.diagonal()
        union = confusion.sum(0) + confusion.sum(1) - hits
        seen = union > 0
        if not seen.any():
            return {"mean_iou": 0.0, "pixel_accuracy": 0.0}
        return {
            "mean_iou": float((hits[seen] / union[seen]).mean()),
            "pixel_accuracy": 100 * float(hits.sum() / confusion.sum()),
        }

"""PASCAL VOC through torchvision: images with the boxes of their objects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from xml.etree.ElementTree import ParseError

import torch
from torch import Tensor
from torchvision.datasets import VOCDetection

from pipeline.config.finetune import FinetuneConfig
from pipeline.eval.dense.average_precision import Objects
from pipeline.eval.dense.files import read_image
from pipeline.eval.dense.layouts import Split, data_root, voc_sets
from pipeline.eval.dense.sizes import to_tensor
from shards.errors import UserError

CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa"),
    *("train", "tvmonitor"),
)


@dataclass(frozen=True)
class DetectionExample:
    """An image and what it shows."""

    image: Tensor
    """uint8 [3, H, W]."""
    objects: Objects
    """Labels are from 1, in the order of `CLASSES`; boxes in pixels, from 0 to W and H."""


class VocImages:
    """One split; `images[row]` is its example."""

    def __init__(self, config: FinetuneConfig, split: Split) -> None:
        root = data_root(config)
        self._parts = [
            VOCDetection(root, year, image_set=name) for year, name in voc_sets(config, split)
        ]

    def __len__(self) -> int:
        return sum(map(len, self._parts))

    def __getitem__(self, row: int) -> DetectionExample:
        """Raises UserError for a file that is damaged."""
        for part in self._parts:
            if row < len(part):
                return _read(part, row)
            row -= len(part)
        raise IndexError(row)


def _read(part: VOCDetection, row: int) -> DetectionExample:
    image, place = read_image(part.images[row]), part.annotations[row]
    try:
        _, description = part[row]
        shown = description["annotation"].get("object", [])
        return DetectionExample(to_tensor(image), _objects(shown))
    except (KeyError, ValueError, TypeError, AttributeError, ParseError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise UserError(f"{place}: not an annotation of VOC ({reason}); replace it") from None


def _objects(shown: list[Mapping[str, Any]]) -> Objects:
    """VOC counts pixels from 1 and a box includes its last, so that one from 1 to W is all of the
    image: in coordinates from 0 to W.
    """
    boxes = [
        [float(one["bndbox"][side]) - ("min" in side) for side in ("xmin", "ymin", "xmax", "ymax")]
        for one in shown
    ]
    corners = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    if not (corners[:, :2] < corners[:, 2:]).all():
        raise ValueError("a box has no area")
    return Objects(
        boxes=corners,
        labels=torch.tensor([1 + CLASSES.index(one["name"]) for one in shown], dtype=torch.int64),
        difficult=torch.tensor([one.get("difficult") == "1" for one in shown], dtype=torch.bool),
    )

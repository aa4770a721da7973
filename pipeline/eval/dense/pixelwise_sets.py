"""ADE20K and NYUv2: images with a label for every pixel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pipeline.config.finetune import FinetuneConfig
from pipeline.eval.dense.files import read_classes, read_image, read_normals
from pipeline.eval.dense.layouts import DenseFile, Split, list_files
from shards.errors import UserError

ADE20K_CLASSES = 150


@dataclass(frozen=True)
class DenseExample:
    """An image and its labels."""

    image: Image.Image
    labels: Tensor
    """[1, H, W] int64 classes, or -1 for none; or normals [3, H, W] float32, or zeros for none."""


class DenseImages:
    """One split; `images[row]` is its example."""

    def __init__(self, config: FinetuneConfig, split: Split) -> None:
        self._is_normals = config.task == "normals"
        self._files = list_files(config, split)

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, row: int) -> DenseExample:
        """Raises UserError for a file that is damaged."""
        file = self._files[row]
        image = read_image(file.image)
        labels = self.labels(row)
        if labels.shape[1:] != (image.height, image.width):
            raise UserError(
                f"{file.labels}: labels of {labels.shape[2]}x{labels.shape[1]}, but {file.image} "
                f"has {image.width}x{image.height} pixels; replace one"
            )
        return DenseExample(image, labels)

    def labels(self, row: int) -> Tensor:
        """Only the labels; raises as `images[row]` does."""
        file: DenseFile = self._files[row]
        if self._is_normals:
            normals = np.ascontiguousarray(read_normals(file.labels).transpose(2, 0, 1))
            return torch.from_numpy(normals)
        return torch.from_numpy(read_classes(file.labels, ADE20K_CLASSES))[None]

"""Frozen representations of images: of the student, of the same student untrained, and raw
pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from pipeline.backbone import Normalise
from pipeline.train_config import TrainConfig
from shards.reader import ShardReader

_BATCH = 500


@dataclass(frozen=True)
class Representation:
    """`train` and `test` [N, D] float32 with labels [N] int64: all that a probe may see."""

    name: str
    train: np.ndarray
    train_labels: np.ndarray
    test: np.ndarray
    test_labels: np.ndarray


@torch.inference_mode()
def extract(
    backbone: nn.Module,
    reader: ShardReader,
    config: TrainConfig,
    device: torch.device,
    num_samples: int | None = None,
) -> np.ndarray:
    """Representations [N, D] float32 of the first `num_samples` images, without augmentation."""
    normalise = Normalise(config.pixel_mean, config.pixel_std).to(device)
    backbone = backbone.eval().to(device)
    parts = []
    for rows in _batches(num_samples or len(reader)):
        images = torch.from_numpy(reader.gather("image", rows)).to(device)
        parts.append(backbone(normalise(images)).float().cpu().numpy())
    return np.concatenate(parts)


@torch.no_grad()
def calibrate_batch_norm(
    backbone: nn.Module, reader: ShardReader, config: TrainConfig, device: torch.device
) -> nn.Module:
    """Give an untrained backbone the batch statistics of the train images, so that it is judged at
    its best.
    """
    normalise = Normalise(config.pixel_mean, config.pixel_std).to(device)
    backbone = backbone.train().to(device)
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # average over the passes
    for rows in _batches(len(reader)):
        if len(rows) > 1:
            backbone(normalise(torch.from_numpy(reader.gather("image", rows)).to(device)))
    return backbone


def raw_pixels(reader: ShardReader) -> np.ndarray:
    """The images themselves, [N, 3 R R] float32 in [0, 1]."""
    images = reader.gather("image", np.arange(len(reader)))
    return images.reshape(len(images), -1).astype(np.float32) / 255


def _batches(count: int) -> list[np.ndarray]:
    return [np.arange(start, min(start + _BATCH, count)) for start in range(0, count, _BATCH)]

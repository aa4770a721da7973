"""Frozen representations of images: of the student, trained and untrained, and raw pixels."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from pipeline.config.train import TrainConfig
from pipeline.student.backbone import Normalise
from pipeline.student.representations import cached_array, weights_digest
from pipeline.student.view_size import SizedImages

_BATCH = 500


@dataclass(frozen=True)
class Representation:
    """`train` and `test` [N, D] float32 with labels [N] int64: all that a probe may see.

    `train_rows` [N] int64 are the places of `train` among the real train images, of which only the
    labelled ones are here.
    """

    name: str
    train: np.ndarray
    train_labels: np.ndarray
    train_rows: np.ndarray
    test: np.ndarray
    test_labels: np.ndarray


def extract(
    backbone: nn.Module,
    images: SizedImages,
    config: TrainConfig,
    device: torch.device,
    rows: np.ndarray | None = None,
    cache: Path | None = None,
) -> np.ndarray:
    """Representations [N, D] float32 of the images at `rows` [N], else of all, without
    augmentation; kept in the folder `cache`, if it is given.
    """
    rows = np.arange(len(images)) if rows is None else rows

    def compute() -> np.ndarray:
        return _compute(backbone, images, config, device, rows)

    if cache is None:
        return compute()
    chosen = hashlib.sha256(np.asarray(rows, np.int64).tobytes()).hexdigest()
    normalisation = [config.pixel_mean, config.pixel_std]
    parts = [weights_digest(backbone), images.digest, chosen, normalisation, device.type]
    return cached_array(cache, parts, compute)


@torch.inference_mode()
def _compute(
    backbone: nn.Module,
    images: SizedImages,
    config: TrainConfig,
    device: torch.device,
    rows: np.ndarray,
) -> np.ndarray:
    normalise = Normalise(config.pixel_mean, config.pixel_std).to(device)
    backbone = backbone.eval().to(device)
    parts = []
    for batch in _batches(rows):
        pixels = images.gather(batch).to(device)
        parts.append(backbone(normalise(pixels)).float().cpu().numpy())
    return np.concatenate(parts)


@torch.no_grad()
def calibrate_batch_norm(
    backbone: nn.Module, images: SizedImages, config: TrainConfig, device: torch.device
) -> nn.Module:
    """Give an untrained backbone the batch statistics of the train images, so that it is judged at
    its best; one without batch normalisation stays as it is.
    """
    normalise = Normalise(config.pixel_mean, config.pixel_std).to(device)
    backbone = backbone.train().to(device)
    norms = [module for module in backbone.modules() if isinstance(module, _BatchNorm)]
    if not norms:
        return backbone
    for norm in norms:
        norm.momentum = None  # average over the passes
    for rows in _batches(np.arange(len(images))):
        if len(rows) > 1:
            backbone(normalise(images.gather(rows).to(device)))
    return backbone


def raw_pixels(images: SizedImages, rows: np.ndarray) -> np.ndarray:
    """The images at `rows` [N] themselves, [N, 3 V V] float32 in [0, 1]."""
    pixels = images.gather(rows).numpy()
    return pixels.reshape(len(pixels), -1).astype(np.float32) / 255


def _batches(rows: np.ndarray) -> list[np.ndarray]:
    return [rows[start : start + _BATCH] for start in range(0, len(rows), _BATCH)]

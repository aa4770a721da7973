"""Stored train and test images of a test's choice, as a probe trained on them reads them, and a
backbone for it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from pipeline.config.augment import AugmentConfig
from pipeline.config.student import StudentConfig
from pipeline.config.train import TrainConfig
from pipeline.eval.probes.labelled_views import ProbeImages
from pipeline.student.backbone import StudentResNet, build_backbone
from shards.reader import ShardReader
from shards.schema import Schema, image_column
from shards.storage import Folder
from tests.support.shard_sets import REMEDY, write_set

Labelled = tuple[np.ndarray, np.ndarray]
"""uint8 [N, 3, R, R] and int64 [N]."""
SIDE = 8
NUM_CLASSES = 4
IN_UNITS = TrainConfig(pixel_mean=(0, 0, 0), pixel_std=(1, 1, 1))
"""Images in [0, 1] reach the backbone as they are."""


def ignore(_images_seen: int, _metrics: dict[str, float]) -> bool:
    """A report that nobody hears."""
    return False


def draw_classes(count: int, separation: float, seed: int) -> Labelled:
    """Noisy images, each class of its own colour, the more the larger `separation` in [0, 1]."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, NUM_CLASSES, count)
    colours = np.array([[0, 0, 0], [120, 0, 0], [0, 120, 0], [0, 0, 120]]) * separation
    noise = generator.integers(0, 128, (count, 3, SIDE, SIDE))
    return (noise + colours[labels][:, :, None, None]).astype(np.uint8), labels


def small_resnet() -> StudentResNet:
    """Untrained, with running statistics that are not those of a fresh one."""
    network = build_backbone(StudentConfig(width=4), seed=0)
    generator = torch.Generator().manual_seed(1)
    for name, value in network.state_dict().items():
        if name.endswith(("running_mean", "running_var")):
            value.add_(torch.rand(value.shape, generator=generator))
    assert isinstance(network, StudentResNet)
    return network


def as_they_are() -> AugmentConfig:
    """No views."""
    return AugmentConfig(enabled=False)


def make_images(
    folder: Path,
    train: Labelled,
    test: Labelled | None = None,
    rows: np.ndarray | None = None,
    view_size: int | None = None,
) -> ProbeImages:
    """Shards of both under `folder`; of `train` only `rows` count as labelled, if they are given.
    Without `test`, the train images are tested on, too; views are as large as they are, or of
    `view_size`.
    """
    images, labels = train
    rows = np.arange(len(labels)) if rows is None else rows
    test_images, test_labels = train if test is None else test
    return ProbeImages(
        _write(folder / "train", images),
        rows,
        labels[rows],
        _write(folder / "test", test_images),
        np.arange(len(test_labels)),
        test_labels,
        view_size=view_size or images.shape[-1],
    )


def _write(folder: Path, images: np.ndarray) -> ShardReader:
    half = len(images) // 2
    schema = Schema((image_column(images.shape[-1], "npy", None),))
    write_set(Folder.at(folder), schema, {"image": images}, [half, len(images) - half])
    return ShardReader(folder, remedy=REMEDY)

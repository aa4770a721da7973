"""Stored train and test images of a test's choice, as a probe trained on them reads them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipeline.config.augment import AugmentConfig
from pipeline.eval.probes.labelled_views import ProbeImages
from shards.reader import ShardReader
from shards.schema import Schema, image_column
from shards.storage import Folder
from tests.support.shard_sets import REMEDY, write_set

Labelled = tuple[np.ndarray, np.ndarray]
"""uint8 [N, 3, R, R] and int64 [N]."""


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

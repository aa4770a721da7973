"""What is probed: the student and its baselines, on labelled real images.

Neighbours: `extract.py` computes representations, `stage.py` has them probed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from pipeline.config.method import DiscriminatorConfig
from pipeline.config.root import Config
from pipeline.eval.discriminator import load_discriminator_backbone
from pipeline.eval.extract import Representation, calibrate_batch_norm, extract, raw_pixels
from pipeline.eval.probes.labelled_views import ProbeImages
from pipeline.records.products import real_shards, student_file
from pipeline.student.backbone import build_backbone, load_backbone
from pipeline.student.representations import REPRESENTATIONS
from pipeline.student.view_size import SizedImages
from shards.errors import UserError
from shards.reader import ShardReader
from shards.verify import verified


def open_real(config: Config, split: str) -> ShardReader:
    """The run's real images of `split`, every byte verified."""
    return verified(real_shards(config, split).open())


def labelled_images(config: Config) -> ProbeImages:
    """The labelled train and test images; raises UserError if that is too little."""
    train, test = open_real(config, "train"), open_real(config, "test")
    train_labels, test_labels = (
        reader.gather("label", np.arange(len(reader))) for reader in (train, test)
    )
    rows, test_rows = (np.flatnonzero(labels >= 0) for labels in (train_labels, test_labels))
    if len(np.unique(train_labels[rows])) < 2 or not len(test_rows):
        raise UserError(
            "real.path: evaluation needs labelled train images of at least two classes, and "
            "labelled test images"
        )
    return ProbeImages(
        train=train,
        train_rows=rows,
        train_labels=train_labels[rows],
        test=test,
        test_rows=test_rows,
        test_labels=test_labels[test_rows],
        view_size=config.view_size,
    )


@dataclass(frozen=True)
class Subject:
    """What is probed, and the network that made it, if one did."""

    representation: Representation
    backbone: nn.Module | None


def subjects(config: Config, images: ProbeImages, device: torch.device) -> Iterator[Subject]:
    """Of labelled images: student and, where wanted, the same student untrained, raw pixels."""
    train, test = (SizedImages(part, images.view_size) for part in (images.train, images.test))
    rows = images.train_rows

    def represent(name: str, backbone: nn.Module | None) -> Subject:
        arrays = [
            raw_pixels(part, chosen)
            if backbone is None
            else extract(backbone, part, config.train, device, chosen, cache_folder(config))
            for part, chosen in ((train, rows), (test, images.test_rows))
        ]
        labels = (images.train_labels, images.test_labels)
        representation = Representation(name, arrays[0], labels[0], rows, arrays[1], labels[1])
        return Subject(representation, backbone)

    yield represent("student", load_student(config))
    if not config.eval.baselines:
        return
    untrained = build_backbone(config.train.student, config.train.seed)
    calibrate_batch_norm(untrained, train, config.train, device)
    yield represent("untrained_student", untrained)
    yield represent("raw_pixels", None)


def cache_folder(config: Config) -> Path:
    """Where representations are kept, of all runs."""
    return config.paths.runs / REPRESENTATIONS


def load_student(config: Config) -> nn.Module:
    """What the run has trained, or the discriminator it took: normalised -> representation."""
    path = student_file(config)
    if isinstance(config.train.method, DiscriminatorConfig):
        return load_discriminator_backbone(config, path)
    return load_backbone(config.train.student, path)

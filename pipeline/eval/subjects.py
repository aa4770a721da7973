"""What is measured: the run's student and its baselines.

Neighbours: `labelled.py` has the images, `sets.py` probes each subject on them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from pipeline.config.method import DiscriminatorConfig
from pipeline.config.root import Config
from pipeline.engine.workers import Workers
from pipeline.eval.discriminator import load_discriminator_backbone
from pipeline.eval.labelled import LabelledSet, Side
from pipeline.eval.representation import Representation
from pipeline.records.products import real_shards, student_file
from pipeline.student.backbone import build_backbone, load_backbone
from pipeline.student.extraction import Extractor, Frozen, calibrate_batch_norm
from pipeline.student.representations import REPRESENTATIONS
from pipeline.student.vectors import Vectors
from pipeline.student.view_size import SizedImages

_LARGEST_PIXELS, _SMALL_PIXELS = 64, 32
"""Sides in pixels: images above the first are brought to the second to be taken as they are."""
PIXELS_REMARK = f"; images above {_LARGEST_PIXELS} px brought to {_SMALL_PIXELS} px for raw pixels"


@dataclass(frozen=True)
class Subject:
    """Something that makes representations of images."""

    name: str
    network: Frozen
    side: int
    """Of the images that it sees, in pixels."""
    remark: str = ""
    """What its numbers' protocols say of it."""

    def extract(self, side: Side, extractor: Extractor, title: str) -> Vectors:
        """Its representations of the labelled images of one side of a set."""
        images = SizedImages(side.images.open(), self.side)
        return extractor.extract(self.network, images, side.rows, title)

    def represent(self, labelled: LabelledSet, extractor: Extractor) -> list[Representation]:
        """Of a set, for each of its folds."""
        title = f"{self.name} {labelled.name}"
        train = self.extract(labelled.train, extractor, f"{title} train")
        is_split = labelled.test is not labelled.train
        test = self.extract(labelled.test, extractor, f"{title} test") if is_split else train
        of_train, of_test = labelled.train, labelled.test
        return [
            Representation(
                self.name,
                train.take(fold.train) if len(labelled.folds) > 1 else train,
                of_train.labels[fold.train],
                of_train.rows[fold.train],
                test.take(fold.test) if len(labelled.folds) > 1 else test,
                of_test.labels[fold.test],
                self.remark,
            )
            for fold in labelled.folds
        ]


def pixel_side(side: int) -> int:
    """Side at which images of `side` px are compared by their pixels: 3 · 32² numbers where they
    would be more than 3 · 64².
    """
    return side if side <= _LARGEST_PIXELS else _SMALL_PIXELS


def student_subject(config: Config) -> Subject:
    """What the run has trained, or the discriminator that it took."""
    return Subject("student", _frozen(config, load_student(config)), config.view_size)


def baselines(config: Config, workers: Workers) -> list[Subject]:
    """The same student untrained, and raw pixels."""
    untrained = _frozen(config, build_backbone(config.train.student, config.train.seed))
    images = SizedImages(real_shards(config, "train").open(), config.view_size)
    side = pixel_side(config.view_size)
    remark = PIXELS_REMARK if side != config.view_size else ""
    state = workers.run_one(calibrate_batch_norm, untrained, images)
    assert untrained.backbone is not None
    untrained.backbone.load_state_dict(state)
    return [
        Subject("untrained_student", untrained, config.view_size),
        Subject("raw_pixels", Frozen(None), side, remark),
    ]


def _frozen(config: Config, backbone: nn.Module) -> Frozen:
    return Frozen(backbone, config.train.pixel_mean, config.train.pixel_std)


def cache_folder(config: Config) -> Path:
    """Where representations are kept, of all runs."""
    return config.paths.runs / REPRESENTATIONS


def load_student(config: Config) -> nn.Module:
    """What the run has trained, or the discriminator it took: normalised -> representation."""
    path = student_file(config)
    if isinstance(config.train.method, DiscriminatorConfig):
        return load_discriminator_backbone(config, path)
    return load_backbone(config.train.student, path)

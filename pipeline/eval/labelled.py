"""Labelled sets as an evaluation uses them: the run's own labels, and the sets of `eval.sets` that
stage `real` has packed.

A set with test images is one fold: all train images, all test images. One without is divided into
folds by class, each of which is tested once by a probe that is fitted to the others.
Neighbours: `records/sets.py` has the sets' records; `stage.py` measures on what this opens.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.config.labelled_set import ERICSSON
from pipeline.config.root import Config
from pipeline.engine.workers import Workers
from pipeline.records.products import RealImages, RealShards, real_shards, require_real
from pipeline.records.sets import packed_sets, require_set, set_config
from pipeline.results.lineage import split_digest
from pipeline.terminal.progress import progress_bar
from shards.errors import UserError
from shards.verify import verify_shards

if TYPE_CHECKING:
    from pipeline.eval.probes.labelled_views import ProbeImages

MAX_FOLDS = 5
_SEED = 0
_SHARDS_AT_ONCE = 64


@dataclass(frozen=True)
class Side:
    """Labelled images; travels to workers."""

    images: RealShards
    rows: np.ndarray
    """[N] int64, rising: places of the labelled ones among `images`."""
    labels: np.ndarray
    """[N] int64, their classes."""


@dataclass(frozen=True)
class Fold:
    """Positions, not places, in both sides of a set."""

    train: np.ndarray
    """[N] int64, rising: in `LabelledSet.train`."""
    test: np.ndarray
    """[M] int64, rising: in `LabelledSet.test`."""


@dataclass(frozen=True)
class LabelledSet:
    """Images with labels, by which students are measured."""

    name: str
    """What its numbers have as `dataset`."""
    is_own: bool
    """Whether it is the run's own images."""
    train: Side
    test: Side
    """`train` itself in a cross-validation."""
    folds: tuple[Fold, ...]
    """One with everything where there are test images."""
    class_names: tuple[str, ...]
    """By label."""
    split_digest: str
    """SHA-256 of what probes are fitted to and scored on."""
    remark: str
    """For the end of a protocol: empty, or of a cross-validation."""

    def probe_images(self, fold: Fold, view_size: int) -> ProbeImages:
        """Images of a fold, with views of `view_size` pixels."""
        from pipeline.eval.probes.labelled_views import ProbeImages

        return ProbeImages(
            train=self.train.images.open(),
            train_rows=self.train.rows[fold.train],
            train_labels=self.train.labels[fold.train],
            test=self.test.images.open(),
            test_rows=self.test.rows[fold.test],
            test_labels=self.test.labels[fold.test],
            view_size=view_size,
        )


def own_labels(config: Config) -> LabelledSet | None:
    """The run's own images, every byte verified; None if they have no labels or no test images.

    Raises:
        UserError: if there are labels, but too few to measure anything.
    """
    real = require_real(config).outputs
    if not real.num_samples["test"] or not real.class_names:
        return None
    train, test = (_open_side(config, split, real) for split in ("train", "test"))
    if len(np.unique(train.labels)) < 2 or not len(test.labels):
        raise UserError(
            "real.path: evaluation needs labelled train images of at least two classes, and "
            "labelled test images"
        )
    return _with_test(config.real.source, True, real, train, test)


def open_sets(config: Config) -> list[LabelledSet]:
    """All that a run's student is measured on: its own labels, if it has any, then `eval.sets` in
    their order, but for those of Ericsson et al.

    Raises:
        UserError: for a set that is not packed, or has too few labels.
    """
    own = own_labels(config)
    others = [open_set(config, name) for name in packed_sets(config)]
    return others if own is None else [own, *others]


def open_set(config: Config, name: str) -> LabelledSet:
    """The set `name` of `eval.sets`, every byte verified.

    Raises:
        UserError: if it is not packed, or has too few labels.
    """
    real, own, field = require_set(config, name).outputs, set_config(config, name), _field(name)
    train = _open_side(own, "train", real)
    num_classes = len(np.unique(train.labels))
    if num_classes < 2:
        found = "have no labels" if not num_classes else "with labels are all of one class"
        raise UserError(
            f"{field}: its train images {found}; a probe is fitted to at least two classes"
        )
    if not real.num_samples["test"]:
        return _cross_validated(name, real, train)
    test = _open_side(own, "test", real)
    if not len(test.labels):
        raise UserError(
            f"{field}: its test images have no labels; put them in one sub-folder per class, or "
            "leave them out: without test images a set is cross-validated"
        )
    return _with_test(name, False, real, train, test)


def set_inputs(config: Config) -> dict[str, str]:
    """What the sets of `eval.sets` put into the fingerprint of an evaluation: nothing where there
    are none.

    Raises:
        UserError: for a set that is not packed, or has too few labels.
    """
    inputs: dict[str, str] = {}
    for name, labelled in config.eval.sets.items():
        if labelled.source == ERICSSON:
            inputs[f"set {name}"] = ERICSSON
            continue
        real = require_set(config, name).outputs
        splits = [split for split, count in real.num_samples.items() if count]
        inputs |= {f"set {name} {split}": real.digests[split] for split in splits}
    return inputs


def _open_side(config: Config, split: str, real: RealImages) -> Side:
    """Reads every shard, on workers where there are any."""
    images = real_shards(config, split, real)
    num_shards = len(images.open().shards)
    groups = [
        range(start, min(start + _SHARDS_AT_ONCE, num_shards))
        for start in range(0, num_shards, _SHARDS_AT_ONCE)
    ]
    workers = Workers(config.ray, config.hardware.device)
    found: dict[int, np.ndarray] = {}
    with progress_bar("shards") if len(groups) > 1 else nullcontext() as bar:
        task = bar.add_task(f"labels {split}", total=num_shards, note="") if bar else None
        for place, part in workers.run(_read_labels, [(images, group) for group in groups]):
            found[place] = part
            if bar and task is not None:
                bar.advance(task, len(groups[place]))
    labels = np.concatenate([found[place] for place in range(len(groups))])
    rows = np.flatnonzero(labels >= 0)
    return Side(images, rows, labels[rows])


def _read_labels(images: RealShards, shards: Sequence[int], device: Any) -> np.ndarray:
    """Labels [n] int64 of some shards, every byte verified; in this process or in a worker."""
    reader = images.open()
    verify_shards(reader, shards)
    ends = np.cumsum([0, *reader.shard_sizes])
    return reader.gather("label", np.arange(ends[shards[0]], ends[shards[-1] + 1]))


def _with_test(name: str, is_own: bool, real: RealImages, train: Side, test: Side) -> LabelledSet:
    whole = Fold(np.arange(len(train.rows)), np.arange(len(test.rows)))
    digest = split_digest(real, "train", "test")
    return LabelledSet(name, is_own, train, test, (whole,), real.class_names, digest, "")


def _cross_validated(name: str, real: RealImages, side: Side) -> LabelledSet:
    folds = _divide(_field(name), side.labels, real.class_names)
    text = json.dumps([split_digest(real, "train"), len(folds), _SEED])
    remark = (
        f"; {len(folds)}-fold cross-validation by class, seed {_SEED}, of one set without a split "
        f"of its own: a number's seed modulo {len(folds)} is the fold that it is tested on"
    )
    digest = hashlib.sha256(text.encode()).hexdigest()
    return LabelledSet(name, False, side, side, folds, real.class_names, digest, remark)


def _divide(field: str, labels: np.ndarray, names: Sequence[str]) -> tuple[Fold, ...]:
    """Folds of positions in `labels` [N], every class in each of them."""
    from sklearn.model_selection import StratifiedKFold

    found, sizes = np.unique(labels, return_counts=True)
    lonely = [names[label] for label in found[sizes == 1]]
    if lonely:
        shown = ", ".join(lonely[:10]) + (f" and {len(lonely) - 10} more" if lonely[10:] else "")
        raise UserError(
            f"{field}: without test images it is cross-validated, which takes at least two images "
            f"of each class, and there is one of {shown}; add some, leave these out with "
            f"{field}.classes, or name test images as {field}.test"
        )
    splitter = StratifiedKFold(min(MAX_FOLDS, int(sizes.min())), shuffle=True, random_state=_SEED)
    return tuple(Fold(train, test) for train, test in splitter.split(labels, labels))


def _field(name: str) -> str:
    return f"eval.sets.{name}"

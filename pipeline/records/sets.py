"""Labelled sets of the user's own as the run has them: each is packed by stage `real` under a
config of its own, and leaves its record in `runs/NAME/sets/SET/real`.

Neighbours: `config/labelled_set.py` says what a set is; `stages.py` has them packed, and whoever
measures on them opens them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.config.labelled_set import ERICSSON
from pipeline.config.root import Config
from pipeline.records.products import RealImages, require_real
from pipeline.records.record import Record
from shards.errors import UserError

SETS_FOLDER = "sets"
"""In a run's folder."""


def packed_sets(config: Config) -> tuple[str, ...]:
    """Names of the labelled sets that are packed, all but those of Ericsson et al."""
    return tuple(name for name, named in config.eval.sets.items() if named.source != ERICSSON)


def set_config(config: Config, name: str) -> Config:
    """The config under which stage `real` packs the set `name` of the run, and finds it again: with
    the run's store, cache and Ray, and a folder of its own.

    Raises:
        UserError: if the run has no such set, or one that is not packed.
    """
    if name not in packed_sets(config):
        known = ", ".join(packed_sets(config)) or "none"
        raise UserError(f"eval.sets: no set {name} that is packed; there are {known}")
    real = config.eval.sets[name].as_real(config.real, name)
    return config.packing(real, name, config.run_dir / SETS_FOLDER)


@contextmanager
def in_fields_of(config: Config) -> Iterator[None]:
    """Lets a mistake in images of `config` name the fields that its user wrote: of a set's config
    those in `eval.sets`.
    """
    try:
        yield
    except UserError as error:
        text = config.real.reword(str(error))
        if text == str(error):
            raise
        raise type(error)(text) from None


def require_set(config: Config, name: str) -> Record[RealImages]:
    """The packed images of the set `name`, on which something can be measured.

    Raises:
        UserError: if they are not packed under these settings, and for a set without labels, of one
            class, or with an empty test side.
    """
    own = set_config(config, name)
    with in_fields_of(own):
        record = require_real(own)
    _check(f"eval.sets.{name}", own, record)
    return record


def _check(field: str, config: Config, record: Record[RealImages]) -> None:
    images, real = record.outputs, config.real
    classes = images.class_names
    if not classes:
        raise UserError(
            f"{field}: no labels in {real.location}; put the images in one sub-folder "
            f"per class, or name the labels with {field}.label_field"
        )
    if len(classes) == 1:
        raise UserError(
            f"{field}: all images are of one class, {classes[0]!r}; a probe needs at least two"
        )
    if "test" in record.inputs and not images.num_samples["test"]:
        where, remedy = f"{field}.test: no images in {real.test}", "leave it out"
        if real.test is None:
            where, remedy = (
                f"{field}.path: no test images in {real.path}",
                "remove what is for them",
            )
        raise UserError(
            f"{where}; put some there, or {remedy}: without test images a set is cross-validated"
        )

"""The stages by name, and how one is brought up to date.

A stage module has `find` (the record of a finished stage, found without importing torch or Ray),
`run` and `describe`. They are imported by name: neither the command line nor the tables know more
of a stage than that.
"""

from __future__ import annotations

import importlib
import os
from contextlib import nullcontext
from typing import Any

from pipeline.config.root import Config
from pipeline.engine.launch import is_first_process
from pipeline.records.environment import current_commit
from pipeline.records.log import logged
from pipeline.records.products import RealImages, real_shards
from pipeline.records.record import RECORD_FILE, Record, read_record
from pipeline.records.sets import in_fields_of, packed_sets, require_set, set_config
from pipeline.records.spec import recorded_fields
from pipeline.teacher.description import is_finished
from shards.atomic import exclusive
from shards.errors import UserError

STAGES = {
    "real": "Pack real images into shards.",
    "teacher": "Train a GAN on the real shards (the digits have one already).",
    "generate": "Render the teacher's images and features into shards.",
    "train": "Train the student: squeeze and span, or another method.",
    "eval": "Measure the student and its baselines on real images.",
    "report": "Write the results as one HTML page.",
}
EXTRAS = {
    "transfer": "Measure the student on other data sets.",
    "finetune": "Fine-tune the student on detection, segmentation or surface normals.",
}
"""Like stages, but only run when asked for."""
_ROOMS = {"transfer": "eval.transfer", "finetune": "eval.dense"}
"""Rooms of the stages that have not a room of their own name."""
_READ_IMAGES = ("teacher", "train", "eval")
_SHARED = ("real", "generate")
"""Several of the same may be at work at once: they write the same content to the same names."""


def load_stage(name: str) -> Any:
    """The stage's module."""
    return importlib.import_module(f"pipeline.{_ROOMS.get(name, name)}.stage")


def needed_stages(config: Config) -> list[str]:
    """Stages without which `config` has no report, in order; one that it gives a teacher, or that
    uses none, does not train one.
    """
    unneeded = set() if config.train.reads_pool else {"generate"}
    if is_teacher_given(config) or not uses_teacher(config):
        unneeded.add("teacher")
    return [name for name in STAGES if name not in unneeded]


def uses_teacher(config: Config) -> bool:
    """Whether the run has anything to do with a teacher."""
    return config.train.reads_pool or config.train.needs_teacher


def is_teacher_given(config: Config) -> bool:
    """Whether the teacher to distil is one that this run does not train."""
    teacher = config.teacher
    if teacher.checkpoint is None:
        return False
    return not teacher.train_if_missing or is_finished(teacher.checkpoint)


def check_images(name: str, config: Config) -> None:
    """Before the stage `name` runs by itself, whether real images are still those that were packed.
    Where their source is gone, the shards are what there is.

    Raises:
        UserError: if they are not.
    """
    has_run = read_record(config.run_dir / "real", RealImages) is not None
    if name not in _READ_IMAGES or not has_run:
        return
    try:
        is_current = load_stage("real").find(config) is not None
    except UserError:  # the source is gone
        return
    if not is_current:
        raise UserError(
            f"{config.run_dir / 'real'}: no longer the images of real.path, other fields of "
            "section real than they were packed with (such as real.unreadable), or shards that are "
            "not whole; change that back, or run `make real` first"
        )


def find_set(name: str, config: Config) -> Record[RealImages] | None:
    """Record of the labelled set `name` of `eval.sets` if it is packed. Where its source is gone,
    the shards are what there is.

    Raises:
        UserError: naming the field of a set that cannot be packed, or that lacks labels.
    """
    own = set_config(config, name)
    with in_fields_of(own):
        try:
            record: Record[RealImages] | None = load_stage("real").find(own)
        except UserError:
            record = read_record(own.run_dir / "real", RealImages)
            if record is None or record.config != recorded_fields(own.real):
                raise
            for split in record.outputs.digests:
                real_shards(own, split, record.outputs).open()
    return None if record is None else require_set(config, name)


def pack_set(name: str, config: Config) -> Record[RealImages]:
    """Pack a set; raises as `find_set` does, and if nothing can be measured on it, this time and
    the next: then it is left without a record.
    """
    own = set_config(config, name)
    with in_fields_of(own):
        run_stage("real", own)
    try:
        importlib.import_module("pipeline.eval.labelled").open_set(config, name)
    except UserError:
        (own.run_dir / "real" / RECORD_FILE).unlink(missing_ok=True)
        raise
    return require_set(config, name)


def pack_sets(config: Config) -> None:
    """Bring all sets up to date; raises as `pack_set` does."""
    for name in packed_sets(config):
        if find_set(name, config) is None:
            pack_set(name, config)


def run_stage(name: str, config: Config) -> Record[Any]:
    """Run a stage that is not done, alone in its folder; returns its record."""
    stage = load_stage(name)
    current_commit()
    alone = name not in _SHARED and is_first_process()
    folder = config.run_dir / (stage.folder_name(config) if name in EXTRAS else name)
    if name == "teacher":
        folder = config.trained_teacher_folder
    is_first = is_first_process()
    with (
        exclusive(folder) if alone else nullcontext(),
        logged(config.run_dir, name, ray=_describe_ray(config)) if is_first else nullcontext(),
    ):
        stage.run(config)
    record: Record[Any] = stage.find(config)
    return record


def _describe_ray(config: Config) -> dict[str, Any]:
    fields = config.ray.model_dump(mode="json") | config.hardware.model_dump(mode="json")
    return {"address": os.environ.get("RAY_ADDRESS"), **fields}

"""What a student was made of: the records behind it, refused where they are no longer those."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.config.root import Config
from pipeline.records.products import (
    Pool,
    RealImages,
    Student,
    require_pool,
    require_real,
    require_student,
)
from pipeline.records.record import Record
from shards.errors import UserError


@dataclass(frozen=True)
class Ancestors:
    """A student's record, and those of what it was trained on."""

    student: Record[Student]
    real: Record[RealImages]
    pool: Record[Pool] | None
    """None if the training read none."""

    @property
    def teacher_digest(self) -> str | None:
        """SHA-256 of the teacher's network; None if there was no teacher."""
        inputs = self.student.inputs if self.pool is None else self.pool.inputs
        return inputs.get("teacher")


def require_ancestors(config: Config) -> Ancestors:
    """Those of the run's student. Every stage after the training takes them from here, so that no
    number and no page speaks of images that the student never saw.

    Raises:
        UserError: if a stage has not run under these settings, or has since made something else
            than what the student was trained on.
    """
    student, real = require_student(config), require_real(config)
    _check("real", config, student, {"real": real.outputs.digests["train"]})
    return Ancestors(student, real, require_seen_pool(config, student))


def require_seen_pool(config: Config, student: Record[Student]) -> Record[Pool] | None:
    """The pool that the student was trained on, if any; raises as `require_ancestors`."""
    if not config.train.reads_pool:
        return None
    pool = require_pool(config)
    size = str(pool.outputs.num_samples)
    _check("generate", config, student, {"pool": pool.outputs.key, "pool size": size})
    return pool


def _check(stage: str, config: Config, student: Record[Student], present: dict[str, str]) -> None:
    for name, value in present.items():
        trained_on = student.inputs.get(name, value)
        if trained_on != value:
            raise UserError(
                f"{config.run_dir / stage}: the student was trained on other samples ({name} "
                f"{trained_on[:12]}, now {value[:12]}); bring those back and run `make {stage}`, "
                "or train on these in another run with name=…"
            )

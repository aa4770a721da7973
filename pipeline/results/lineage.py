"""Where a run's student comes from, read off the records of its stages.

Neighbours: the stages leave the records; an evaluation puts what is found here into every number
that it appends to the ledger.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime

from pipeline.config.root import Config
from pipeline.records.ancestors import require_seen_pool
from pipeline.records.environment import current_commit, installed_versions
from pipeline.records.products import RealImages, require_student
from pipeline.results.ledger import Lineage


def read_lineage(config: Config, device: str) -> Lineage:
    """That of the run's student, measured by this process on `device`.

    Raises:
        UserError: if the training, or the pool that it read, is not there under these settings.
    """
    train = config.train
    record = require_student(config)
    pool = require_seen_pool(config, record)
    pool_key, teacher = None, record.inputs.get("teacher")
    if pool is not None:
        pool_key, teacher = pool.outputs.key, pool.inputs["teacher"]
    stopped = record.outputs.stopped_at_epoch
    epochs = train.epochs if stopped is None else int(stopped)
    digest = record.spec.without("seed").fingerprint
    if stopped is not None and not train.patience:  # by hand: no seed of the same training
        digest = hashlib.sha256(f"{digest} {stopped}".encode()).hexdigest()
    return Lineage(
        run=config.name,
        method=train.method.name,
        variant=train.variant,
        batch_norm=train.batch_norm if train.method.trains else "",
        train_seed=train.seed,
        epochs=epochs if train.method.trains else 0,
        training_digest=digest,
        student_digest=record.outputs.digest,
        pool_key=pool_key,
        pool_size=record.outputs.pool_size,
        teacher_digest=teacher,
        commit=current_commit(),
        versions=json.dumps(installed_versions(), sort_keys=True),
        device=device,
        created_at=datetime.now(UTC),
    )


def lineage_of(representation: str, config: Config, student: Lineage) -> Lineage:
    """That of another `representation` measured beside the run's `student`: the same network
    untrained, which depends on its seed and architecture alone, or something not trained at all.
    """
    if representation == "student":
        return student
    origin = replace(
        student,
        method="none",
        variant="",
        batch_norm="",
        train_seed=None,
        epochs=0,
        training_digest=None,
        student_digest=None,
        pool_key=None,
        pool_size=None,
        teacher_digest=None,
    )
    if representation != "untrained_student":
        return origin
    train = config.train
    described = [train.student.backbone, train.pixel_mean, train.pixel_std]
    digest = hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()
    return replace(origin, train_seed=train.seed, training_digest=digest)


def split_digest(real: RealImages, *splits: str) -> str:
    """SHA-256 of the contents of some `splits` of the shards `real`: of a probe, of those
    that it is fitted to and scored on.
    """
    digests = [[split, real.digests[split]] for split in splits]
    return hashlib.sha256(json.dumps(digests).encode()).hexdigest()

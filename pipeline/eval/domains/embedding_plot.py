"""Synthetic samples in four spaces, as pictures in the plane (Yang et al. 2022, Fig. 2): features
of the discriminator, mapped latents, pooled features of the generator, and the student's
representations.

Labels come from `labeller.py`, coordinates from `embedding.py`; the report draws them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch

from pipeline.config.root import Config
from pipeline.engine.device import choose_device
from pipeline.eval.discriminator import DiscriminatorBackbone
from pipeline.eval.domains import embedding, label_agreement, labeller
from pipeline.eval.extract import extract
from pipeline.eval.probes.labelled_views import ProbeImages
from pipeline.eval.subjects import cache_folder, subjects
from pipeline.records.embeddings import EmbeddedSpace, Embeddings
from pipeline.records.products import pool_shards, require_pool, require_real
from pipeline.student.view_size import SizedImages
from pipeline.teacher.checkpoint import read_discriminator
from pipeline.teacher.description import (
    DISCRIMINATOR_FILE,
    GENERATOR_FILE,
    check_digest,
    read_teacher_info,
)
from shards.errors import UserError
from shards.pool import PoolReader
from shards.schema import W
from shards.verify import verified

_FLATTERED = (
    "the labels are linear in the student's representations, which flatters their own agreement"
)


SPACES = ("discriminator", "w", "generator", "student")
"""All that a run may have."""


def embed_all(
    config: Config,
    images: ProbeImages,
    num_samples: int,
    report: Callable[[str, int], None] = lambda space, total: None,
) -> Embeddings:
    """The pool's first `num_samples` samples in every space that the run has: a teacher without a
    discriminator, or a pool that stores no features but `w`, has one space less. Labels are learned
    from the real `images`.

    The time is mostly that of `embedding.embed`, once per space, on the CPU; `report` hears of
    each, and how many there are.

    Raises:
        UserError: as `pool_shards` and `read_teacher_info` do; if the teacher is not the pool's,
            the pool is too small, or UMAP is not installed.
    """
    if not embedding.is_available():
        raise UserError("UMAP is not installed; pip install umap-learn")
    device = choose_device(config.hardware.device)
    pool = pool_shards(config, num_samples).open()
    if len(pool) < embedding.MIN_SAMPLES:
        raise UserError(
            f"generate.num_samples: {len(pool)} samples make no picture; at least "
            f"{embedding.MIN_SAMPLES} do"
        )
    for reader in pool.readers:
        verified(reader)
    student = next(subjects(config, images, device))
    assert student.backbone is not None
    rows, cache = np.arange(len(pool)), cache_folder(config)
    sized = SizedImages(pool.images, config.view_size)
    synthetic = extract(student.backbone, sized, config.train, device, rows, cache)
    seed = config.eval.seeds[0]
    labelling = labeller.label_synthetic(student.representation, synthetic, seed=seed)
    spaces = [*_teacher_spaces(config, pool, device), ("student", synthetic)]
    chance = label_agreement.chance_agreement(labelling.labels)
    embedded = []
    for name, space in spaces:
        embedded.append(_embed(name, space, labelling.labels, seed))
        report(name, len(spaces))
    return Embeddings(
        tuple(embedded),
        labelling.labels,
        labelling.confidences,
        require_real(config).outputs.class_names,
        labelling.accuracy,
        chance,
        (
            labelling.protocol,
            f"{label_agreement.PROTOCOL.format(chance=chance)}; {_FLATTERED}",
            embedding.PROTOCOL.format(seed=seed),
        ),
    )


def _embed(name: str, features: np.ndarray, labels: np.ndarray, seed: int) -> EmbeddedSpace:
    coordinates = embedding.embed(features, seed=seed)
    return EmbeddedSpace(
        name,
        features.shape[1],
        coordinates,
        label_agreement.space_agreement(features, labels),
        label_agreement.plane_agreement(coordinates, labels),
    )


def _teacher_spaces(
    config: Config, pool: PoolReader, device: torch.device
) -> Iterator[tuple[str, np.ndarray]]:
    """Name and features [N, D] float32 of what the teacher itself makes of the pool's samples."""
    rows = np.arange(len(pool))
    info = read_teacher_info(config.teacher_folder)
    generate = require_pool(config)
    if info.digests[GENERATOR_FILE] != generate.inputs["teacher"]:
        raise UserError(
            f"{config.teacher_folder}: not the teacher that rendered the pool; run `make generate` "
            "again"
        )
    if info.discriminator is not None:
        check_digest(config.teacher_folder, info, DISCRIMINATOR_FILE)
        weights = read_discriminator(config.teacher_folder / DISCRIMINATOR_FILE, info)
        backbone = DiscriminatorBackbone(weights, "multi", config.train)
        images = SizedImages(pool.images, info.discriminator.resolution)  # as it was trained
        yield "discriminator", extract(backbone, images, config.train, device, rows)
    yield "w", pool.gather_features([W], rows).astype(np.float32)
    blocks = [name for name in generate.outputs.features if name != W]
    if blocks:
        yield "generator", pool.gather_features(blocks, rows).astype(np.float32)

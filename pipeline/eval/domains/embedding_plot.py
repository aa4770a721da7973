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
from pipeline.eval.discriminator import DiscriminatorBackbone
from pipeline.eval.domains import embedding, label_agreement, labeller
from pipeline.eval.representation import Representation
from pipeline.records.embeddings import EmbeddedSpace, Embeddings
from pipeline.records.products import pool_shards, require_pool, require_real
from pipeline.student.extraction import Frozen, represent, split_rows
from pipeline.student.vectors import Vectors
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

ONE_CLASS = "synthetic"
"""What all samples are where no label says more."""
SPACES = ("discriminator", "w", "generator", "student")
"""All that a run may have."""


def embed_all(
    config: Config,
    labelled: Representation | None,
    synthetic: Vectors,
    report: Callable[[str, int], None] | None,
    device: torch.device,
) -> Embeddings:
    """The pool's first samples in every space that the run has: a teacher without a discriminator,
    or a pool that stores no features but `w`, has one space less. Runs in this process or in a
    worker.

    The time is mostly that of `embedding.embed`, once per space, on the CPU; `report` hears of
    each, and how many there are.

    Args:
        config: of the run.
        labelled: the student's representations of real images, from which labels are learned; None
            where there are no labels, and all samples are one class.
        synthetic: its representations [N, D] of the pool's first N samples.
        report: see above.
        device: to compute on.

    Raises:
        UserError: as `pool_shards` and `read_teacher_info` do; if the teacher is not the pool's,
            the pool is too small, or UMAP is not installed.
    """
    if not embedding.is_available():
        raise UserError("UMAP is not installed; pip install umap-learn")
    if len(synthetic) < embedding.MIN_SAMPLES:
        raise UserError(
            f"generate.num_samples: {len(synthetic)} samples make no picture; at least "
            f"{embedding.MIN_SAMPLES} do"
        )
    pool = pool_shards(config, len(synthetic)).open()
    for reader in pool.readers:
        verified(reader)
    seed, vectors = config.eval.seeds[0], synthetic.array()
    labelling = labeller.label_synthetic(labelled, vectors, seed=seed) if labelled else None
    count = len(vectors)
    labels = np.zeros(count, np.int64) if labelling is None else labelling.labels
    spaces = [*_teacher_spaces(config, pool, device), ("student", vectors)]
    embedded = []
    for name, space in spaces:
        embedded.append(_embed(name, space, labels, seed))
        if report is not None:
            report(name, len(spaces))
    drawn = embedding.PROTOCOL.format(seed=seed)
    if labelling is None:
        ones = np.ones(count, np.float32)
        return Embeddings(tuple(embedded), labels, ones, (ONE_CLASS,), 100.0, 100.0, (drawn,))
    chance = label_agreement.chance_agreement(labels)
    return Embeddings(
        tuple(embedded),
        labels,
        labelling.confidences,
        require_real(config).outputs.class_names,
        labelling.accuracy,
        chance,
        (
            labelling.protocol,
            f"{label_agreement.PROTOCOL.format(chance=chance)}; {_FLATTERED}",
            drawn,
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
        network = Frozen(backbone, config.train.pixel_mean, config.train.pixel_std)
        parts = represent(network, images, split_rows(images, rows, device), device)
        yield "discriminator", np.concatenate(list(parts))
    if info.generator.has_mapping:
        yield "w", pool.gather_features([W], rows).astype(np.float32)
    blocks = [name for name in generate.outputs.features if name != W]
    if blocks:
        yield "generator", pool.gather_features(blocks, rows).astype(np.float32)

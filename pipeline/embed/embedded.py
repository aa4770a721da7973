"""Packed images and a student -> embeddings, read a part at a time beside names and classes.

Neighbours: `student/extraction.py` computes them in blocks that are kept by content, on workers;
`table.py` writes them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice

import numpy as np

from pipeline.embed.images import Images
from pipeline.embed.subject import Subject
from pipeline.engine.workers import Workers
from pipeline.student.extraction import Extractor
from pipeline.student.representations import REPRESENTATIONS
from pipeline.student.vectors import PART_NUMBERS, Vectors
from pipeline.student.view_size import SizedImages


@dataclass(frozen=True)
class Batch:
    """Some images."""

    sources: list[str]
    labels: list[str | None]
    embeddings: np.ndarray
    """float32 [n, D]."""


@dataclass(frozen=True)
class Embedded:
    """Images of one or several splits, and their embeddings."""

    images: tuple[Images, ...]
    vectors: tuple[Vectors, ...]
    """Of each of `images`."""

    def __len__(self) -> int:
        return sum(map(len, self.images))

    @property
    def num_dims(self) -> int:
        """Width of an embedding."""
        return self.vectors[0].shape[1]

    @property
    def has_labels(self) -> bool:
        """Whether an image may have a class."""
        return any(images.record.outputs.class_names for images in self.images)

    def names(self) -> Iterator[tuple[str, str | None]]:
        """Source and class of every image, in their order."""
        return chain.from_iterable(images.names() for images in self.images)

    def batches(self) -> Iterator[Batch]:
        """All of them, some 64 MiB at a time."""
        names = self.names()
        for vectors in self.vectors:
            for part in vectors.parts(max(1, PART_NUMBERS // self.num_dims)):
                sources, labels = zip(*islice(names, len(part)), strict=True)
                yield Batch(list(sources), list(labels), part)

    def pixels(self, row: int) -> np.ndarray:
        """An image as it is stored, uint8 [3, R, R]."""
        for images in self.images:
            if row < len(images):
                found: np.ndarray = images.open().gather("image", np.array([row]))[0]
                return found
            row -= len(images)
        raise IndexError("no such image")


def workers_of(subject: Subject) -> Workers:
    """Where its config lets students be measured."""
    return Workers(subject.config.ray, subject.config.hardware.device)


def embed(subject: Subject, packed: Sequence[Images]) -> Embedded:
    """Embeddings of the images, those that are kept from before among them.

    Raises:
        UserError: for a damaged shard.
    """
    folder = subject.config.paths.runs / REPRESENTATIONS
    extractor = Extractor(folder, workers_of(subject))
    vectors = [
        extractor.extract(
            subject.network,
            SizedImages(images.open(), subject.side),
            None,
            f"embed {images.name}".strip(),
        )
        for images in packed
    ]
    return Embedded(tuple(packed), tuple(vectors))

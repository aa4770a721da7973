"""Synthetic samples in the plane, as `eval` would leave them."""

from __future__ import annotations

import numpy as np

from pipeline.records.embeddings import EmbeddedSpace, Embeddings

SPACES = ("discriminator", "w", "generator", "student")


def make_embeddings(
    count: int, num_classes: int = 3, names: tuple[str, ...] = SPACES, seed: int = 0
) -> Embeddings:
    generator = np.random.default_rng(seed)
    spaces = tuple(
        EmbeddedSpace(
            name,
            8 + place,
            generator.normal(place, 5, (count, 2)).astype(np.float32),
            60.0 + place,
            50.0 + place,
        )
        for place, name in enumerate(names)
    )
    return Embeddings(
        spaces=spaces,
        labels=generator.integers(0, num_classes, count),
        confidences=generator.uniform(0.3, 1, count).astype(np.float32),
        class_names=tuple(f"class {label}" for label in range(num_classes)),
        classifier_accuracy=91.5,
        chance_agreement=33.3,
        protocols=("labels by a classifier, right for 91.5 % of the images", "UMAP"),
    )

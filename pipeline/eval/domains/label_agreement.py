"""How far neighbours in a space have the same label: the figure beside a picture of it, since
pictures mislead. Neighbour: `embedding_plot.py`.
"""

from __future__ import annotations

import numpy as np
from sklearn.neighbors import NearestNeighbors

from pipeline.measures.knn import nearest

NUM_NEIGHBOURS = 10
PROTOCOL = (
    f"label agreement: share of the {NUM_NEIGHBOURS} nearest other samples, by cosine in a space "
    "and by distance in its picture, that have a sample's label; mean over samples, in percent; "
    "{chance:.1f} for random ones"
)


def space_agreement(features: np.ndarray, labels: np.ndarray) -> float:
    """Share of each sample's `NUM_NEIGHBOURS` nearest others by cosine (all of them, if fewer) that
    have its label; mean over `features` [N, D] with `labels` [N], percent.

    Raises:
        ValueError: for a single sample.
    """
    if len(features) < 2:
        raise ValueError("a single sample has no neighbours")
    _, found = nearest(features, features, NUM_NEIGHBOURS + 1)
    is_itself = found == np.arange(len(features))[:, None]
    is_itself[~is_itself.any(1), -1] = True  # crowded out by samples that are just the same
    return _share(found[~is_itself].reshape(len(features), -1), labels)


def plane_agreement(coordinates: np.ndarray, labels: np.ndarray) -> float:
    """The same of `coordinates` [N, 2], by Euclidean distance."""
    if len(coordinates) < 2:
        raise ValueError("a single sample has no neighbours")
    index = NearestNeighbors(n_neighbors=min(NUM_NEIGHBOURS, len(coordinates) - 1))
    return _share(index.fit(coordinates).kneighbors(return_distance=False), labels)


def chance_agreement(labels: np.ndarray) -> float:
    """What both would be if neighbours were drawn at random, percent."""
    counts = np.unique(labels, return_counts=True)[1]
    num_samples = len(labels)
    return 100 * float((counts * (counts - 1)).sum() / (num_samples * (num_samples - 1)))


def _share(neighbours: np.ndarray, labels: np.ndarray) -> float:
    return 100 * float(np.mean(labels[neighbours] == labels[:, None]))

"""Features of many dimensions -> two, for a picture: UMAP (McInnes, Healy and Melville 2018,
arXiv:1802.03426), umap-learn's. Neighbour: `embedding_plot.py` says of what.

Distances are cosines of the features as they are, neither centred nor scaled by dimension: the
geometry in which `measures/knn.py` classifies, so that picture and numbers are of the same thing.
On the digits, standardising each dimension moves the label agreement of every space by at most
four points.
"""

from __future__ import annotations

import warnings
from importlib.util import find_spec

import numpy as np
import torch

from pipeline.samples.seeding import numpy_generator

NUM_NEIGHBOURS = 15
MIN_DIST = 0.1
MIN_SAMPLES = NUM_NEIGHBOURS + 1
PROTOCOL = (
    f"UMAP, cosine distance of the features as they are, {NUM_NEIGHBOURS} neighbours, minimum "
    f"distance {MIN_DIST:g}, started from the first two principal components, seed {{seed}}"
)


def is_available() -> bool:
    """Whether UMAP is installed."""
    return find_spec("umap") is not None


def embed(features: np.ndarray, *, seed: int) -> np.ndarray:
    """Coordinates [N, 2] float32 of `features` [N, D], in no unit; a function of `seed` on the same
    machine.

    A fixed seed makes UMAP run on a single thread: on one slow core 2,000 samples take five
    seconds, after some fifteen in which it is imported and compiled. From 4,096 samples on it finds
    neighbours approximately, and compiles for forty. Features that are all the same (a collapsed
    student) lie in one point.

    Raises:
        ValueError: for fewer than `MIN_SAMPLES` samples, or if a feature is not finite.
    """
    if len(features) < MIN_SAMPLES:
        raise ValueError(f"{len(features)} samples are too few to embed; {MIN_SAMPLES} are needed")
    features = features.astype(np.float32)
    if not np.isfinite(features).all():
        raise ValueError("a feature is not finite")
    if (features == features[0]).all():
        return np.zeros((len(features), 2), np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ImportWarning)  # of a part of it that wants Tensorflow
        # compiles as it is imported, which takes seconds
        from umap import UMAP
    state = int(numpy_generator(seed, "eval/embedding").integers(2**31))
    model = UMAP(
        n_neighbors=NUM_NEIGHBOURS,
        min_dist=MIN_DIST,
        metric="cosine",
        init="pca",
        random_state=state,
        n_jobs=1,
    )
    threads = torch.get_num_threads()
    try:
        coordinates: np.ndarray = model.fit_transform(features)
    finally:
        torch.set_num_threads(threads)  # numba sets those of the process, which torch shares
    return coordinates.astype(np.float32)

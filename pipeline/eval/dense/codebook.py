"""Surface normals as classes: directions found by k-means, of which each pixel has the nearest
(Wang et al. 2015; Goyal et al. 2019).

The cited code ships its 40 directions in a file; here they are found in the train split.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.eval.dense.angular_error import has_normal
from pipeline.eval.dense.pixelwise_sets import DenseImages
from pipeline.samples.seeding import numpy_generator
from shards.errors import UserError

_MOST_IMAGES = 400
_PIXELS_PER_IMAGE = 250


def find_directions(images: DenseImages, num_clusters: int, seed: int) -> Tensor:
    """Unit vectors [K, 3] float32, the centres of normals drawn from the images; fewer than
    `num_clusters` if that few differ.

    Raises:
        UserError: if no pixel drawn has a normal.
    """
    from sklearn.cluster import KMeans

    generator = numpy_generator(seed, "finetune/codebook")
    drawn = []
    for row in generator.permutation(len(images))[:_MOST_IMAGES].tolist():
        normals = images.labels(row)
        known = F.normalize(normals[:, has_normal(normals)], dim=0).T.numpy()
        if len(known):
            drawn.append(known[generator.integers(len(known), size=_PIXELS_PER_IMAGE)])
    if not drawn:
        raise UserError("finetune.root: no pixel of the train split has a normal; see its arrays")
    sample = np.concatenate(drawn).astype(np.float64)
    different = np.unique(sample.round(3), axis=0)
    if len(different) <= num_clusters:
        centres = different
    else:
        state = int(generator.integers(2**31))
        centres = KMeans(num_clusters, n_init=4, random_state=state).fit(sample).cluster_centers_
    return F.normalize(torch.from_numpy(centres).float(), dim=1)


def nearest_direction(normals: Tensor, directions: Tensor) -> Tensor:
    """Classes int64 [B, H, W] of normals [B, 3, H, W]; -1 where there is none."""
    cosines = torch.einsum("kc,bchw->bkhw", directions, normals)
    return cosines.argmax(1).masked_fill(~has_normal(normals), -1)


def expected_direction(probabilities: Tensor, directions: Tensor) -> Tensor:
    """Vectors [3, H, W] of probabilities [K, H, W]: the mean direction, not of unit length."""
    return torch.einsum("kc,khw->chw", directions, probabilities)

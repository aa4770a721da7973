"""What can be said of representations without labels: how near two views of an image lie, and how
evenly all images are spread over the sphere (Wang and Isola 2020, arXiv:2005.10242).

Neighbour: `train/monitor/` asks while a student trains.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

_ROWS = 1024  # of a block of distances


def alignment(first: Tensor, second: Tensor) -> float:
    """Mean of ‖f(x) - f(x⁺)‖² over pairs of views, in [0, 4]; 0 where views do not matter, also of
    a representation that has collapsed. With their α = 2.

    Args:
        first: representations of one view of every image, [N, D], of any norm.
        second: likewise of another view.
    """
    distances = (_unit(first) - _unit(second)).square().sum(1)
    return float(distances.mean())


def uniformity(vectors: Tensor) -> float:
    """log of the mean of exp(-2 ‖f(x) - f(y)‖²) over all pairs of different rows of `vectors`
    [N, D], N at least 2, in [-8, 0]: 0 where all are the same, about -4 where they are spread
    evenly over a sphere of many dimensions. With their t = 2.

    Raises:
        ValueError: for fewer rows.
    """
    num_rows = len(vectors)
    if num_rows < 2:
        raise ValueError(f"{num_rows} rows have no pairs")
    unit = _unit(vectors)
    total = 0.0
    for start in range(0, num_rows, _ROWS):
        block = unit[start : start + _ROWS]
        similarities = block @ unit.T
        kernel = (4 * (similarities - 1)).exp_()  # ‖a - b‖² = 2 - 2 a·b
        kernel[torch.arange(len(block)), torch.arange(len(block)) + start] = 0
        total += float(kernel.sum())
    return math.log(total / (num_rows * (num_rows - 1)))


def _unit(vectors: Tensor) -> Tensor:
    return F.normalize(vectors.double(), dim=1)

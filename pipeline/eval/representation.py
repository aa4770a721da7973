"""What a probe may see of a labelled set: representations and labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.student.vectors import Vectors


@dataclass(frozen=True)
class Representation:
    """`train` and `test`, float32 [N, D], with labels [N] int64.

    `train_rows` [N] int64 are the places of `train` among the real train images, of which only the
    labelled ones are here.
    """

    name: str
    train: Vectors
    train_labels: np.ndarray
    train_rows: np.ndarray
    test: Vectors
    test_labels: np.ndarray
    remark: str = ""
    """On how it was made, for the protocol."""

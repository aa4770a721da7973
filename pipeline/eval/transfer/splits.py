"""The two draws of Ericsson et al. 2021 (their release, github.com/linusericsson/ssl-transfer).

They are published splits, not randomness of this project: both are made again with the generator
that made them, numpy's legacy one from seed 0, whose stream numpy has frozen.
"""

from __future__ import annotations

import numpy as np

VALIDATION_SHARE = 0.2
CALTECH_DRAWS = 30


def draw_validation(num_train: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the train and of the validation part of `num_train` images without an official split.

    Validation is the first fifth, rounded down, of the shuffled rows; either part keeps the
    shuffled order.
    """
    rows = np.random.RandomState(0).permutation(num_train)
    num_val = int(np.floor(VALIDATION_SHARE * num_train))
    return rows[num_val:], rows[:num_val]


def draw_caltech(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows of Caltech-101's train and test images, sorted; `labels` [N] are of all, by class.

    Thirty draws of every class, one class after the other, **with** replacement, as the release
    makes them, so that most classes have fewer than thirty different train images; all others are
    the test split. The release's list, as it was last published, has each of them once.
    """
    generator = np.random.RandomState(0)
    train = np.unique(
        np.concatenate(
            [
                generator.choice(np.flatnonzero(labels == label), CALTECH_DRAWS)
                for label in np.unique(labels)
            ]
        )
    )
    return train, np.setdiff1d(np.arange(len(labels)), train)

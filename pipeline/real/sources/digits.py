"""The embedded default: handwritten digits inside scikit-learn, which need no download."""

from __future__ import annotations

import numpy as np
from PIL import Image

from pipeline.real.sources.source import Source, to_array

NUM_TRAIN = 1437  # the last 360 digits are by other writers


def open_digits(resolution: int, split: str) -> Source:
    """UCI's handwritten digits (Alpaydin & Kaynak 1998), 8x8 grey levels 0-16."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    rows = slice(None, NUM_TRAIN) if split == "train" else slice(NUM_TRAIN, None)
    grey = np.round(digits.images[rows] * (255 / 16)).astype(np.uint8)
    return Source(
        [str(name) for name in digits.target_names],
        digits.target[rows].astype(np.int64),
        lambda row: to_array(Image.fromarray(grey[row]), resolution),
    )

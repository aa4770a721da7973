"""What reference implementations made of given latents, beside what an imported teacher makes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

GOLDEN = Path(__file__).parents[1] / "golden"
TOLERANCE = 1e-4
"""Of the largest magnitude: float32 against the reference's, with sums in another order."""


def read_golden(name: str) -> dict[str, np.ndarray]:
    """The stored arrays of the checkpoint `name`."""
    with np.load(GOLDEN / f"{name}.npz") as arrays:
        return dict(arrays)


def assert_golden(found: np.ndarray, wanted: np.ndarray, name: str) -> None:
    """Within `TOLERANCE`."""
    assert found.shape == wanted.shape, name
    assert np.abs(found - wanted).max() <= TOLERANCE * np.abs(wanted).max(), name

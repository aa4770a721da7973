"""(seed, purpose, index) -> generator. Nothing else in the project draws randomness.

Philox is counter-based: the stream of index *i* neither depends on nor overlaps that of any other
index, so a sample is the same whoever computes it, in whatever order.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def _key(seed: int, purpose: str) -> np.ndarray:
    digest = hashlib.sha256(f"{seed}/{purpose}".encode()).digest()
    return np.frombuffer(digest[:16], dtype=np.uint64)


def numpy_generator(seed: int, purpose: str, index: int = 0) -> np.random.Generator:
    """Generator for one `index` (a sample, a pass, a step) of one `purpose`."""
    counter = np.array([0, 0, index, 0], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=_key(seed, purpose), counter=counter))


class NumpyStreams:
    """Generators of many indices of one `purpose`, one after the other, for one thread: a single
    generator is moved from index to index, which is quicker than making one for each.
    """

    def __init__(self, seed: int, purpose: str) -> None:
        self._generator = numpy_generator(seed, purpose)
        self._state = self._generator.bit_generator.state  # of index 0, nothing drawn
        self._counter = self._state["state"]["counter"]

    def at(self, index: int) -> np.random.Generator:
        """Draws what `numpy_generator(seed, purpose, index)` draws, until the next `at`."""
        self._counter[2] = index
        self._generator.bit_generator.state = self._state
        return self._generator


def torch_generator(
    seed: int, purpose: str, index: int = 0, device: torch.device | str = "cpu"
) -> torch.Generator:
    """Torch generator for one `index` of one `purpose`; one on a GPU draws other numbers."""
    import torch

    state = int(numpy_generator(seed, purpose, index).integers(2**63))
    return torch.Generator(device).manual_seed(state)

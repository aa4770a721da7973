"""Which samples come when: a pure function of (seed, purpose, position), so that a position is all
a checkpoint keeps.

Every pass over the samples is a fresh permutation; passes follow one another without a seam, and a
batch may straddle two of them. Neighbours: `seeding.py` below; the trainers of teacher and student
above.
"""

from __future__ import annotations

import numpy as np

from pipeline.seeding import numpy_generator


class Order:
    """An endless sequence of sample indices in which every pass holds each of `num_samples` exactly
    once.
    """

    def __init__(self, num_samples: int, seed: int, purpose: str) -> None:
        if num_samples < 1:
            raise ValueError("num_samples must be positive")
        self.num_samples = num_samples
        self._seed = seed
        self._purpose = purpose
        self._passes: dict[int, np.ndarray] = {}

    def indices(self, start: int, count: int) -> np.ndarray:
        """Sample indices at positions `start` … `start + count - 1`; [count] int64."""
        positions = np.arange(start, start + count)
        passes = positions // self.num_samples
        result = np.empty(count, dtype=np.int64)
        for pass_index in np.unique(passes):
            chosen = passes == pass_index
            result[chosen] = self._permutation(int(pass_index))[
                positions[chosen] % self.num_samples
            ]
        return result

    def _permutation(self, pass_index: int) -> np.ndarray:
        if pass_index not in self._passes:
            if len(self._passes) > 1:
                self._passes.pop(min(self._passes))
            generator = numpy_generator(self._seed, f"order/{self._purpose}", pass_index)
            self._passes[pass_index] = generator.permutation(self.num_samples)
        return self._passes[pass_index]

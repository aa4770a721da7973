"""When a training ends because its student no longer gets better, `train.patience`.

Neighbours: `measure.py` looks at the student, `train/loop.py` asks after every look and keeps what
is known here in its checkpoint.
"""

from __future__ import annotations

from typing import Any

import torch

from pipeline.engine.collectives import sum_over_workers
from pipeline.train.monitor.names import KNN_TOP1


class Patience:
    """Counts looks in a row without a better kNN accuracy than the best before them."""

    def __init__(self, looks: int, device: torch.device, state: dict[str, Any] | None) -> None:
        """`looks` end the training, 0 never do; goes on from `state`, of `state_dict`."""
        self._looks = looks
        self._device = device
        self._best = -1.0 if state is None else float(state["best"])
        self._worse = 0 if state is None else int(state["worse"])

    @property
    def is_over(self) -> bool:
        """Whether the training has ended."""
        return 0 < self._looks <= self._worse

    def look(self, seen: dict[str, float]) -> None:
        """Account for a look, of which rank 0 alone has `seen` anything; all workers call it."""
        if not self._looks:
            return
        if KNN_TOP1 in seen:
            self._worse = 0 if seen[KNN_TOP1] > self._best else self._worse + 1
            self._best = max(self._best, seen[KNN_TOP1])
        is_over = torch.tensor(float(self.is_over), device=self._device)
        if sum_over_workers(is_over).item():
            self._worse = self._looks

    def state_dict(self) -> dict[str, Any]:
        """Of rank 0, for a training that goes on."""
        return {"best": self._best, "worse": self._worse}

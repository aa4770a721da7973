"""The controller of adaptive discriminator augmentation (Karras et al. 2020, "Training GANs with
limited data", section 3.2).

Neighbours: `augment.py` has the transformations, `step.py` asks with what probability.
"""

from __future__ import annotations

from torch import Tensor

from pipeline.engine.collectives import mean_over_workers
from pipeline.engine.gpu import Fetched


class AdaController:
    """Moves p so that r_t = E[sign(D(real))] stays at `target`.

    Every `interval` steps p moves by the share of `num_images` shown since, up if r_t of those
    steps is above the target; from 0 to 1 takes `num_images`. `settle` before reading p.
    """

    def __init__(self, target: float, num_images: int, interval: int = 4) -> None:
        self.p = 0.0
        self.overfitting = 0.0
        """r_t of the last interval, in [-1, 1]."""
        self._target = target
        self._num_images = num_images
        self._interval = interval
        self._sum: Tensor | float = 0.0
        self._steps = 0
        self._ended: tuple[Fetched, int] | None = None

    def update(self, real_logits: Tensor, global_batch: int) -> None:
        """Account for this worker's logits [b, 1] of one step's `global_batch` real images.

        Give it to the device before the rest of the step, so that `settle` finds it done.
        """
        self.settle()
        self._sum = self._sum + mean_over_workers(real_logits.sign().mean())
        self._steps += 1
        if self._steps == self._interval:
            assert isinstance(self._sum, Tensor)
            self._ended = Fetched(self._sum), self._steps * global_batch
            self._sum, self._steps = 0.0, 0

    def settle(self) -> None:
        """Move p if the last `update` ended an interval; waits for no more than those logits."""
        if self._ended is None:
            return
        (total, num_images), self._ended = self._ended, None
        self.overfitting = total.get() / self._interval
        step = num_images / self._num_images
        self.p = min(max(self.p + (step if self.overfitting > self._target else -step), 0.0), 1.0)

    def state(self) -> list[float]:
        """Everything that `load` needs."""
        self.settle()
        return [self.p, self.overfitting, float(self._sum), float(self._steps)]

    def load(self, state: list[float]) -> None:
        """Inverse of `state`."""
        self.p, self.overfitting, self._sum, steps = state
        self._steps, self._ended = int(steps), None

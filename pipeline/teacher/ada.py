"""The controller of adaptive discriminator augmentation (Karras et al. 2020, "Training GANs with
limited data", section 3.2).

Neighbours: `augment.py` has the transformations, `train.py` asks with what probability.
"""

from __future__ import annotations

from torch import Tensor

from pipeline.distributed import mean_over_workers


class AdaController:
    """Moves p so that r_t = E[sign(D(real))] stays at `target`.

    Every `interval` steps p moves by the share of `num_images` shown since, up if r_t of those
    steps is above the target; from 0 to 1 takes `num_images`.
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

    def update(self, real_logits: Tensor, global_batch: int) -> None:
        """Account for this worker's logits [b, 1] of one step's `global_batch` real images."""
        self._sum = self._sum + mean_over_workers(real_logits.sign().mean())
        self._steps += 1
        if self._steps < self._interval:
            return
        self.overfitting = float(self._sum) / self._steps  # waits for a GPU, so not in every step
        step = self._steps * global_batch / self._num_images
        self.p = min(max(self.p + (step if self.overfitting > self._target else -step), 0.0), 1.0)
        self._sum, self._steps = 0.0, 0

    def state(self) -> list[float]:
        """Everything that `load` needs."""
        return [self.p, self.overfitting, float(self._sum), float(self._steps)]

    def load(self, state: list[float]) -> None:
        """Inverse of `state`."""
        self.p, self.overfitting, self._sum, steps = state
        self._steps = int(steps)

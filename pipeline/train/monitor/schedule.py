"""When a training is looked at, and at how many images: functions of its config and sizes alone, so
that a training that is resumed, on other hardware or another number of workers, is looked at as one
that was not.

It may take 2 % of the time. Speed is not asked, since numbers would depend on it;
passes are counted instead. A view of a step costs a pass forward and a backward one, three forward
passes in all, beside its augmentation and everything behind the backbone; a look costs two forward
passes a sample, of a key and of a query or of two views. So that looks make a hundredth of the
passes; the other hundredth is for what is not counted: reading, the search for neighbours, and
steps that are compiled, which looks are not. Neighbours: `measure.py` looks, `train/loop.py` asks
when.
"""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.config.train import TrainConfig
from pipeline.train.method import Method

MOST_SAMPLES = 4096
MOST_BYTES = 2**29
"""Of the pixels of one side, which stay in memory: 3,566 images of 224 px."""
LEAST_SAMPLES = 50
"""Fewer tell nothing: a run that is too short for so many is looked at more rarely."""
_LOOKS = 20
_SHARE = 0.01
_PASSES_PER_VIEW = 3
_PASSES_PER_SAMPLE = 2


@dataclass(frozen=True)
class Schedule:
    """So many `looks` in so many `steps`, over and over, and one at the end."""

    looks: int
    steps: int
    num_steps: int
    """Of the training."""
    samples: int
    """Most images of each side."""

    def is_due(self, step: int, interval: int) -> bool:
        """Whether there is a look after `step` steps, which is a line of metrics: the last, or a
        multiple of `interval`. It is where a look fell due since the line before.
        """
        before = (step - 1) // interval * interval
        return step == self.num_steps or self._count(step) > self._count(before)

    def _count(self, step: int) -> int:
        return step * self.looks // self.steps


def make_schedule(
    config: TrainConfig, method: type[Method], num_steps: int, view_size: int
) -> Schedule | None:
    """That of a training of `num_steps` steps on views of `view_size` pixels; None for no look at
    all, which `auto` gives a training that is too short for one.
    """
    monitor, epochs = config.monitor, config.epochs
    if monitor.every_epochs == 0:
        return None
    views = config.num_synthetic * method.synthetic_views + config.num_real * method.real_views
    budget = int(_SHARE * num_steps * views * _PASSES_PER_VIEW / _PASSES_PER_SAMPLE)
    if monitor.every_epochs == "auto":
        looks, steps = min(_LOOKS, epochs), num_steps
        if monitor.samples == "auto":
            looks = min(looks, budget // LEAST_SAMPLES)
        num_looks = looks
    else:
        looks, steps = 1, monitor.every_epochs * (num_steps // epochs)
        num_looks = -(-epochs // monitor.every_epochs)
    if not num_looks:
        return None
    most = min(MOST_SAMPLES, MOST_BYTES // (3 * view_size**2))
    affordable = max(LEAST_SAMPLES, min(most, budget // num_looks))
    samples = affordable if monitor.samples == "auto" else monitor.samples
    return Schedule(looks, steps, num_steps, samples)

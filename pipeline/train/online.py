"""Synthetic samples rendered as a training goes, in place of a pool: no sample is seen twice."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from pipeline.teacher.description import Sampling
from pipeline.teacher.draws import draw_inputs
from pipeline.teacher.interface import TeacherGenerator
from pipeline.teacher.sampling import render_samples


class OnlineSamples:
    """Samples of a teacher on the device of the training, with some features.

    Sample *i* is the one that a pool of the same sampling has at *i*, but for the rounding of what
    is stored.
    """

    def __init__(
        self,
        generator: TeacherGenerator,
        sampling: Sampling,
        features: Sequence[tuple[str, int]],
        render_batch: int,
    ) -> None:
        self.generator = generator
        self._sampling = sampling
        self._features = [name for name, _ in features]
        self.block_channels = [channels for _, channels in features]
        self._render_batch = render_batch

    def render(self, indices: np.ndarray) -> tuple[Tensor, Tensor]:
        """Images uint8 [n, 3, R, R] and pooled features float32 [n, Σ C] of the samples
        `indices`.
        """
        images, pooled = [], []
        for start in range(0, len(indices), self._render_batch):
            part = indices[start : start + self._render_batch]
            inputs = draw_inputs(self.generator, self._sampling, part)
            samples = render_samples(self.generator, self._sampling, inputs, self._features)
            images.append(samples.image.clone())  # an ordinary tensor, not one of inference mode
            pooled.append(samples.pooled(self._features))
        return torch.cat(images), torch.cat(pooled)

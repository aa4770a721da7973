"""Squeeze and span as a module: a batch in, named losses out (Yang et al. 2022, Fig. 1).

Neighbours: `data.py` makes the batches, `loop.py` optimises `StepOutput.loss`; networks and
equations come from `student.py`, `squeeze.py` and `losses.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pipeline.config import TrainConfig
from pipeline.distributed import gather_batch
from pipeline.train.losses import (
    LossWeights,
    ObjectiveTerms,
    effective_rank,
    embedding_std,
    regularised_alignment,
)
from pipeline.train.squeeze import SqueezeModule
from pipeline.train.student import Student


@dataclass(frozen=True)
class Batch:
    """One worker's part of a step; images are normalised views [n, 3, R, R]."""

    synthetic: Tensor
    pooled: Tensor
    """Pooled features of the synthetic images, [n_s, Σ C_l]."""
    real_first: Tensor
    real_second: Tensor


@dataclass(frozen=True)
class StepOutput:
    """`loss` to minimise, and the global embeddings it was computed from, for monitoring."""

    loss: Tensor
    squeeze: ObjectiveTerms
    span: ObjectiveTerms
    synthetic: Tensor
    squeezed: Tensor
    real: Tensor

    def metrics(self) -> dict[str, float]:
        """Losses and the signs of collapse of every side, as plain numbers."""
        values = {"loss": self.loss}
        for name, terms in (("squeeze", self.squeeze), ("span", self.span)):
            values[f"{name}_invariance"] = terms.invariance
            values[f"{name}_variance"] = terms.variance
            values[f"{name}_covariance"] = terms.covariance
        for name, side in (
            ("synthetic", self.synthetic),
            ("squeezed", self.squeezed),
            ("real", self.real),
        ):
            values[f"{name}_std"] = embedding_std(side)
            values[f"{name}_effective_rank"] = effective_rank(side)
        return {name: value.item() for name, value in values.items()}


class SqueezeAndSpan(nn.Module):
    """Student and squeeze module, learned jointly: α · squeeze + (1 - α) · span objective.

    All views of a step pass through the student together, so that its batch normalisation sees the
    mixture that its running statistics describe; the paper does not say.
    """

    def __init__(self, config: TrainConfig, block_channels: Sequence[int]) -> None:
        super().__init__()
        self.student = Student(config)
        self.squeeze = SqueezeModule(block_channels, config.student.embedding_dim)
        self.synthetic_share = config.synthetic_share
        self.weights = LossWeights(
            config.invariance_weight, config.variance_weight, config.covariance_weight
        )

    def forward(self, batch: Batch) -> StepOutput:
        """Losses over the global batch; every worker returns the same values."""
        views = torch.cat([batch.synthetic, batch.real_first, batch.real_second])
        sizes = [len(batch.synthetic), len(batch.real_first), len(batch.real_second)]
        synthetic, real_first, real_second = (
            gather_batch(part) for part in self.student(views).split(sizes)
        )
        squeezed = gather_batch(self.squeeze(batch.pooled))
        squeeze = regularised_alignment(synthetic, squeezed, self.weights)  # Eq. 11
        span = regularised_alignment(real_first, real_second, self.weights)  # Eq. 12
        loss = self.synthetic_share * squeeze.total + (1 - self.synthetic_share) * span.total
        return StepOutput(loss, squeeze, span, synthetic, squeezed, real_first)

"""Squeeze and span, and what its ablation leaves of it (Yang et al. 2022, Fig. 1 and Table 5)."""

from __future__ import annotations

from torch import Tensor, nn

from pipeline.config.method import SqueezeAndSpanConfig
from pipeline.config.train import TrainConfig
from pipeline.student.backbone import build_backbone
from pipeline.train.losses import PAPER, STUDENT_ONLY, LossWeights, regularised_alignment
from pipeline.train.method import Batch, Method, MethodContext, StepOutput
from pipeline.train.projector import build_projector
from pipeline.train.squeeze import SqueezeModule


class SqueezeAndSpan(Method):
    """Student and squeeze module, learned jointly: α · squeeze + (1 - α) · span objective; without
    real images the squeeze objective alone.

    Synthetic views, first real views and second real views are a pass each through the student
    (`train.batch_norm`); the paper does not say.
    """

    synthetic_views = 1

    def __init__(
        self, config: TrainConfig, context: MethodContext, options: SqueezeAndSpanConfig
    ) -> None:
        super().__init__(config, context)
        channels = context.block_channels
        width = config.student.embedding_dim if options.squeeze else sum(channels)
        self.backbone = build_backbone(config.student, config.seed)
        self.projector = build_projector(self.backbone.representation_dim, width, config.student)
        self.squeeze = SqueezeModule(channels, width) if options.squeeze else nn.Identity()
        self.weights = LossWeights.of(options)
        self.squeeze_convention = STUDENT_ONLY if config.variant == "release" else PAPER

    def forward(self, batch: Batch) -> StepOutput:
        """The two objectives; terms are named `squeeze_…` and `span_…`."""
        assert batch.pooled is not None
        embeddings = self.in_passes(self._embed, [*batch.synthetic, *batch.real])
        synthetic, *real = (self.gather(embedding) for embedding in embeddings)
        squeezed = self.gather(self.squeeze(batch.pooled))
        squeeze = regularised_alignment(  # Eq. 11
            synthetic, squeezed, self.weights, self.squeeze_convention
        )
        loss, terms = squeeze.total, squeeze.named("squeeze")
        watched = {"synthetic": synthetic, "squeezed": squeezed}
        if real:
            first, second = real
            span = regularised_alignment(first, second, self.weights)  # Eq. 12
            share = self.config.synthetic_share
            loss = share * loss + (1 - share) * span.total
            terms |= span.named("span")
            watched["real"] = first
        return StepOutput(loss, terms, watched)

    def _embed(self, views: Tensor) -> Tensor:
        embedding: Tensor = self.projector(self.backbone(views))
        return embedding

"""VICReg on the images of either domain or both (Bardes et al. 2022; Yang et al. 2022, Table 2)."""

from __future__ import annotations

from torch import Tensor

from pipeline.config.method import VicRegConfig
from pipeline.config.train import TrainConfig
from pipeline.student.backbone import build_backbone
from pipeline.train.losses import OFFICIAL, PAPER, LossWeights, regularised_alignment
from pipeline.train.method import Batch, Method, MethodContext, StepOutput
from pipeline.train.projector import build_projector


class VicReg(Method):
    """Two views of every image agree, and their embeddings keep variance and lose covariance."""

    def __init__(self, config: TrainConfig, context: MethodContext, options: VicRegConfig) -> None:
        super().__init__(config, context)
        self.backbone = build_backbone(config.student, config.seed)
        self.projector = build_projector(
            self.backbone.representation_dim, config.student.embedding_dim, config.student
        )
        self.weights = LossWeights.of(options)
        self.convention = options.convention or config.variant

    def forward(self, batch: Batch) -> StepOutput:
        """The objective over all images, synthetic and real alike."""
        embeddings = self.in_passes(self._embed, batch.pairs)
        one, other = (self.gather(embedding) for embedding in embeddings)
        terms = regularised_alignment(
            one, other, self.weights, OFFICIAL if self.convention == "official" else PAPER
        )
        return StepOutput(terms.total, terms.named("vicreg"), {"embedding": one})

    def _embed(self, views: Tensor) -> Tensor:
        embedding: Tensor = self.projector(self.backbone(views))
        return embedding

    @property
    def is_global(self) -> bool:
        """As the convention says."""
        return self.convention != "release"

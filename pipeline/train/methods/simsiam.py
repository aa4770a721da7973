"""SimSiam on the images of either domain or both (Chen & He 2021; Yang et al. 2022, Table 2)."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.config.method import SimSiamConfig
from pipeline.config.train import TrainConfig
from pipeline.student.backbone import build_backbone
from pipeline.train.method import Batch, Method, MethodContext, StepOutput


def negative_cosine(predicted: Tensor, target: Tensor) -> Tensor:
    """Mean of -cos over rows of [N, D]; no gradient to `target` (Chen & He 2021, Eq. 1 and 3)."""
    return -F.cosine_similarity(predicted, target.detach()).mean()


class SimSiam(Method):
    """A predictor maps the embedding of one view to that of the other, which is held fixed."""

    def __init__(self, config: TrainConfig, context: MethodContext, options: SimSiamConfig) -> None:
        super().__init__(config, context)
        self.backbone = build_backbone(config.student, config.seed)
        width, dim = self.backbone.representation_dim, config.student.embedding_dim
        hidden_layers: list[nn.Module] = []
        for _ in range(options.projector_layers - 1):
            hidden_layers += [
                nn.Linear(width, width, bias=False),
                nn.BatchNorm1d(width),
                nn.ReLU(),
            ]
        self.projector = nn.Sequential(
            *hidden_layers,
            nn.Linear(width, dim, bias=False),
            nn.BatchNorm1d(dim, affine=False),
        )
        hidden = max(1, dim // 4)
        self.predictor = nn.Sequential(
            nn.Linear(dim, hidden, bias=False),
            nn.BatchNorm1d(hidden),
            nn.ReLU(),
            nn.Linear(hidden, dim),
        )

    def forward(self, batch: Batch) -> StepOutput:
        """The symmetric loss over all images, synthetic and real alike."""
        embeddings = self.in_passes(self._embed, batch.pairs)
        predicted = self.in_passes(self.predictor, embeddings)
        one, other = (self.gather(part) for part in embeddings)
        to_other, to_one = (self.gather(part) for part in predicted)
        loss = (negative_cosine(to_other, other) + negative_cosine(to_one, one)) / 2
        return StepOutput(loss, {}, {"embedding": F.normalize(one)})

    def _embed(self, views: Tensor) -> Tensor:
        embedding: Tensor = self.projector(self.backbone(views))
        return embedding

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The predictor's learning rate does not decay (Chen & He 2021, section 4.2)."""
        scheduled = [*self.backbone.parameters(), *self.projector.parameters()]
        predictor = {"params": list(self.predictor.parameters()), "fixed_rate": True}
        return [{"params": scheduled}, predictor]

"""The student S_θ: the backbone and a projector (Yang et al. 2022, section 4)."""

from __future__ import annotations

from torch import Tensor, nn

from pipeline.backbone import build_backbone
from pipeline.config import TrainConfig


def build_projector(in_features: int, out_features: int, num_layers: int) -> nn.Sequential:
    """[Linear(d -> d, no bias)-BN-ReLU] x (num_layers - 1), Linear(d -> out, no bias)."""
    layers: list[nn.Module] = []
    for _ in range(num_layers - 1):
        layers += [
            nn.Linear(in_features, in_features, bias=False),
            nn.BatchNorm1d(in_features),
            nn.ReLU(),
        ]
    return nn.Sequential(*layers, nn.Linear(in_features, out_features, bias=False))


class Student(nn.Module):
    """Backbone and projector; downstream uses the backbone's output alone."""

    def __init__(self, config: TrainConfig) -> None:
        super().__init__()
        self.backbone = build_backbone(config.student, config.seed)
        self.projector = build_projector(
            self.backbone.representation_dim,
            config.student.embedding_dim,
            config.student.projector_layers,
        )

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images [B, 3, R, R] -> embedding [B, embedding_dim]."""
        embedding: Tensor = self.projector(self.backbone(images))
        return embedding

"""The projector on the student's backbone (Yang et al. 2022, section 4)."""

from __future__ import annotations

from torch import nn


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

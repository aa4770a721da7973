"""The projector on the student's backbone (Yang et al. 2022, section 4)."""

from __future__ import annotations

from torch import nn

from pipeline.config.student import StudentConfig


def build_projector(in_features: int, out_features: int, student: StudentConfig) -> nn.Sequential:
    """[Linear(d -> d, no bias)-BN-ReLU] x (projector_layers - 1), Linear(d -> out, no bias). With
    `projector_hidden` that is the width of the hidden layers, as in VICReg's own projector (Bardes
    et al. 2022, section 4.2).
    """
    layers: list[nn.Module] = []
    width = in_features
    for _ in range(student.projector_layers - 1):
        hidden = student.projector_hidden or in_features
        layers += [nn.Linear(width, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU()]
        width = hidden
    return nn.Sequential(*layers, nn.Linear(width, out_features, bias=False))

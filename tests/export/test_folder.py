"""An export is checked against the run's student: weights to the bit, results to rounding."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from pipeline.config.root import Config
from pipeline.export.folder import check_weights
from pipeline.student.backbone import Backbone, build_backbone

CONFIG = Config.model_validate({"name": "a", "train": {"student": {"width": 4}}})


def written(tmp_path: Path, backbone: Backbone) -> Path:
    path = tmp_path / "model.safetensors"
    save_file(backbone.state_dict(), path)
    return path


class Nudged(nn.Module):
    """The networks' last layer, off by a share of its largest number."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features + self.share * features.abs().max()


@pytest.mark.parametrize(("share", "is_refused"), [(1e-7, False), (1e-3, True)])
def test_representations_may_differ_by_rounding_and_by_no_more(
    tmp_path: Path, share: float, is_refused: bool
) -> None:
    student = build_backbone(CONFIG.train.student, seed=0).eval()
    path = written(tmp_path, student)
    student.fc = Nudged(share)
    if not is_refused:
        check_weights(CONFIG, student, path)
        return
    with pytest.raises(RuntimeError, match="other representations"):
        check_weights(CONFIG, student, path)


def test_weight_that_differs_in_its_last_bit_is_refused(tmp_path: Path) -> None:
    student = build_backbone(CONFIG.train.student, seed=0).eval()
    path = written(tmp_path, student)
    weight = student.state_dict()["layer4.1.conv2.weight"].flatten()
    weight[0] = torch.nextafter(weight[0], torch.tensor(1.0))
    with pytest.raises(RuntimeError, match="other representations"):
        check_weights(CONFIG, student, path)

"""The lines of a card load what was exported, for every kind of student, and give the same
representations.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from pipeline.config.root import Config
from pipeline.export.card import hub_config
from pipeline.export.loading import WEIGHTS_FILE, is_plain, timm_lines, torchvision_lines
from pipeline.student.backbone import build_backbone
from tests.support.card_code import run_code

STUDENTS: dict[str, dict[str, Any]] = {
    "resnet18 plain": {"stem": "imagenet"},
    "resnet18 cifar": {},
    "resnet18 narrow": {"width": 8},
    "resnet18 narrow, imagenet": {"width": 8, "stem": "imagenet"},
    "resnet18 wide": {"width": 80},
    "resnet50 plain": {"architecture": "resnet50", "stem": "imagenet"},
    "resnet50 cifar": {"architecture": "resnet50"},
    "resnet50 narrow": {"architecture": "resnet50", "width": 4},
    "resnet50 narrow, imagenet": {"architecture": "resnet50", "width": 4, "stem": "imagenet"},
    "torchvision": {"architecture": "mobilenet_v3_small"},
    "torchvision, another head": {"architecture": "shufflenet_v2_x0_5"},
    "timm": {"architecture": "timm:resnet10t"},
    "torchvision, options": {
        "architecture": "mobilenet_v3_small",
        "options": {"reduced_tail": True},
    },
    "timm, options": {
        "architecture": "timm:test_vit",
        "options": {"img_size": 32, "patch_size": 8, "global_pool": "avg"},
    },
}


def config_of(name: str) -> Config:
    return Config.model_validate({"name": "a", "train": {"student": STUDENTS[name]}})


def export_weights(config: Config, folder: Path) -> nn.Module:
    """A backbone with every weight off its initial value, also in `folder`."""
    backbone = build_backbone(config.train.student, seed=0)
    generator = torch.Generator().manual_seed(0)
    for value in backbone.state_dict().values():
        if value.is_floating_point():
            value.add_(0.01 * torch.rand(value.shape, generator=generator))
    save_file(backbone.state_dict(), folder / WEIGHTS_FILE)
    return backbone.eval()


def representations(backbone: nn.Module, config: Config, images: torch.Tensor) -> torch.Tensor:
    mean, std = (
        torch.tensor(values)[:, None, None]
        for values in (config.train.pixel_mean, config.train.pixel_std)
    )
    with torch.no_grad():
        found: torch.Tensor = backbone((images - mean) / std)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("library", ["torchvision", "timm"])
@pytest.mark.parametrize("name", STUDENTS)
def test_lines_give_the_very_representations_of_the_student(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, library: str
) -> None:
    config = config_of(name)
    lines = torchvision_lines(config) if library == "torchvision" else timm_lines(config)
    missing = {
        "torchvision": ["timm", "timm, options"],
        "timm": ["torchvision", "torchvision, another head", "torchvision, options"],
    }
    assert (lines is None) == (name in missing[library])
    if lines is None:
        return
    assert ("timm" if library == "torchvision" else "torchvision") not in lines
    backbone = export_weights(config, tmp_path)
    found = run_code(lines, tmp_path, monkeypatch)
    expected = representations(backbone, config, found["images"])
    assert found["images"].shape == (2, 3, 32, 32)
    assert torch.equal(found["representations"], expected)


@pytest.mark.parametrize(
    "name", [name for name in STUDENTS if is_plain(config_of(name).train.student)]
)
def test_plain_networks_folder_is_loaded_by_timm_itself(tmp_path: Path, name: str) -> None:
    config = config_of(name)
    backbone = export_weights(config, tmp_path)
    described = hub_config(config, backbone.representation_dim)  # type: ignore[arg-type]
    (tmp_path / "config.json").write_text(json.dumps(described))
    found = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    assert torch.equal(found(images), backbone(images))
    assert tuple(found.pretrained_cfg["mean"]) == config.train.pixel_mean
    assert found.num_features == described["num_features"]


def test_only_networks_that_timm_makes_by_itself_are_plain() -> None:
    plain = {name for name in STUDENTS if is_plain(config_of(name).train.student)}
    assert plain == {"resnet18 plain", "resnet50 plain", "timm", "timm, options"}


def test_cifar_stem_of_full_width_needs_two_lines_more_than_timms_own() -> None:
    ours, plain = (timm_lines(config_of(f"resnet18 {name}")) for name in ("cifar", "plain"))
    assert ours is not None
    assert plain is not None
    more = [line for line in ours.splitlines() if line not in plain.splitlines()]
    assert [line for line in more if "import" not in line] == [
        "backbone.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)  # the CIFAR stem",
        "backbone.maxpool = nn.Identity()",
    ]

"""Backbones beside ResNet-18: ResNet-50 in both stems, and networks of torchvision and timm by
name.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision import models

from pipeline.config.student import StudentConfig
from pipeline.student.backbone import build_backbone, check_backbone, load_backbone
from pipeline.student.extraction import Frozen, calibrate_batch_norm, represent
from pipeline.student.view_size import SizedImages
from pipeline.train.batch_norm import synchronise_batch_norm
from pipeline.train.loop import STUDENT_FILE, export_student
from shards.errors import UserError
from shards.reader import ShardReader
from tests.support.tiny_shards import RESOLUTION, TRAIN_CONFIG, open_training_shards
from tests.support.trainings import CPU, METHODS, changed, make_method, run_training

SMALL = {"projector_layers": 2, "embedding_dim": 16}


def student(architecture: str, **fields: Any) -> StudentConfig:
    return StudentConfig.model_validate({"architecture": architecture, **fields})


def perturb(network: nn.Module) -> nn.Module:
    """Move every weight and statistic off its initial value; zero-initialised branches too."""
    generator = torch.Generator().manual_seed(0)
    for value in network.state_dict().values():
        if value.is_floating_point():
            value.add_(0.01 * torch.rand(value.shape, generator=generator))
    return network.eval()


def random_images(side: int) -> Tensor:
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))


def states_equal(first: nn.Module, second: nn.Module) -> bool:
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return all(torch.equal(one, other) for one, other in pairs)


@pytest.mark.parametrize("stem", ["cifar", "imagenet"])
def test_resnet50_of_width_64_loads_into_torchvision_and_agrees(stem: str) -> None:
    backbone = perturb(build_backbone(student("resnet50", stem=stem), seed=0))
    reference = models.resnet50()
    if stem == "cifar":
        reference.conv1 = nn.Conv2d(3, 64, 3, stride=1, padding=1, bias=False)
        reference.maxpool = nn.Identity()
    reference.fc = nn.Identity()
    reference.load_state_dict(backbone.state_dict(), strict=True)
    with torch.no_grad():
        found, expected = backbone(random_images(32)), reference.eval()(random_images(32))
    assert found.shape == (2, 2048)
    # the same kernels on the same tensors
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("width", [8, 48, 96])
def test_resnet50_of_another_width_scales_every_stage(width: int) -> None:
    state = build_backbone(student("resnet50", width=width), seed=0).state_dict()
    reference = models.resnet50().state_dict()
    assert list(state) == [name for name in reference if not name.startswith("fc.")]
    for name, value in state.items():
        if name != "conv1.weight":
            expected = tuple(
                size if axis > 1 else size * width // 64
                for axis, size in enumerate(reference[name].shape)
            )
            assert value.shape == expected, name


def test_resnet50_residual_branches_start_at_zero() -> None:
    state = build_backbone(student("resnet50", width=8), seed=0).state_dict()
    last = [value for name, value in state.items() if name.endswith("bn3.weight")]
    assert len(last) == 16
    assert all(value.abs().max() == 0 for value in last)


NAMED = ["mobilenet_v3_small", "convnext_tiny", "resnet34", "timm:resnet10t", "timm:convnext_atto"]


@pytest.mark.parametrize(
    "fields",
    [
        *({"architecture": name} for name in NAMED),
        {"architecture": "resnet18", "width": 4},
        {"architecture": "resnet50", "width": 4, "stem": "imagenet"},
    ],
    ids=lambda fields: str(fields["architecture"]),
)
def test_backbone_maps_images_to_its_representation_dim(fields: dict[str, Any]) -> None:
    config = StudentConfig.model_validate(fields)
    check_backbone(config, 32)
    backbone = build_backbone(config, seed=0)
    for is_training in (True, False):
        found = backbone.train(is_training)(random_images(32))
        assert found.shape == (2, backbone.representation_dim)


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "timm:resnet10t"])
def test_named_backbone_depends_on_the_seed_only(name: str) -> None:
    torch.manual_seed(1)
    first = build_backbone(student(name), seed=7)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    assert states_equal(first, build_backbone(student(name), seed=7))
    assert torch.equal(torch.get_rng_state(), state)
    assert not states_equal(first, build_backbone(student(name), seed=8))


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "efficientnet_b0", "timm:resnet10t"])
def test_named_backbone_draws_nothing_while_it_trains(name: str) -> None:
    backbone = build_backbone(student(name), seed=0).train()
    torch.manual_seed(1)
    first = backbone(random_images(32))
    torch.manual_seed(2)
    torch.testing.assert_close(backbone(random_images(32)), first, rtol=0, atol=0)


def test_torchvision_backbone_loads_into_torchvision_and_agrees() -> None:
    backbone = perturb(build_backbone(student("mobilenet_v3_small"), seed=0))
    reference = models.mobilenet_v3_small()
    reference.classifier[3] = nn.Identity()
    reference.load_state_dict(backbone.state_dict(), strict=True)
    with torch.no_grad():
        torch.testing.assert_close(backbone(random_images(32)), reference.eval()(random_images(32)))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("resnet51", "resnet50"),
        ("fcn_resnet50", "torchvision has no fcn_resnet50"),
        ("qqqq", "torchvision has no qqqq"),
        ("timm:resnet10x", "resnet10t"),
        ("timm:resnet18.no_such_tag", "no_such_tag"),
        ("squeezenet1_0", "no linear classifier"),
    ],
)
def test_unknown_or_unsuitable_name_is_named_with_a_remedy(name: str, words: str) -> None:
    with pytest.raises(UserError, match=r"train\.student\.architecture") as raised:
        build_backbone(student(name), seed=0)
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.filterwarnings("ignore:The default weight initialization:FutureWarning")
@pytest.mark.parametrize(
    ("name", "words"),
    [("vit_b_32", "Expected 224"), ("googlenet", "GoogLeNetOutputs"), ("maxvit_t", "32 px")],
)
def test_network_that_does_not_suit_the_images_is_refused(name: str, words: str) -> None:
    with pytest.raises(UserError, match=rf"train\.student\.architecture={name}: .*{words}"):
        check_backbone(student(name), 32)


def test_timm_that_is_absent_is_named_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UserError, match="pip install timm"):
        build_backbone(student("timm:resnet18"), seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["squeeze and span", "vicreg both", "simsiam both"])
def test_training_of_a_named_backbone_is_exported_and_loaded(
    training_folder: Path, tmp_path: Path, method: str
) -> None:
    fields = {"student": {"architecture": "mobilenet_v3_small", **SMALL}, "epochs": 1}
    config = changed(TRAIN_CONFIG, **METHODS[method], **fields)
    shards = open_training_shards(training_folder)
    run_training(config, shards, tmp_path, "f", lambda *_: None)
    path = tmp_path / STUDENT_FILE
    backbone = load_backbone(config.student, path)
    assert not states_equal(backbone, build_backbone(config.student, config.seed))
    assert load_file(path).keys() == backbone.state_dict().keys()
    with pytest.raises(UserError, match=r"student\.safetensors"):
        load_backbone(student("mobilenet_v3_large"), path)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (
            {"architecture": "resnet50", "width": 4, "stem": "imagenet"},
            {"architecture": "resnet50", "width": 4, "stem": "imagenet"},
        ),
        ({"architecture": "mobilenet_v3_small"}, {"architecture": "mobilenet_v3_small"}),
    ],
)
def test_exported_student_says_what_it_is(
    tmp_path: Path, fields: dict[str, Any], expected: dict[str, Any]
) -> None:
    config = changed(TRAIN_CONFIG, student={**fields, **SMALL})
    export_student(make_method(config, [4]).backbone, config, tmp_path)
    with safe_open(tmp_path / STUDENT_FILE, "pt") as file:
        described = json.loads(file.metadata()["student"])
    normalisation = {"pixel_mean": list(config.pixel_mean), "pixel_std": list(config.pixel_std)}
    assert described == {**expected, **normalisation}


@pytest.mark.slow
def test_calibration_leaves_a_network_without_batch_normalisation_alone(
    real_reader: ShardReader,
) -> None:
    config = student("swin_t")
    images, backbone = SizedImages(real_reader, RESOLUTION), build_backbone(config, 0)
    calibrate_batch_norm(Frozen(backbone), images, CPU)
    assert states_equal(backbone, build_backbone(config, 0))
    (found,) = represent(Frozen(backbone), images, [np.arange(40)], CPU)
    assert found.shape == (40, 768)


def test_batch_normalisation_that_cannot_be_shared_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """timm's carry an activation, which torch's own conversion would lose without a word."""
    network = build_backbone(student("timm:efficientnet_b0"), seed=0)
    assert synchronise_batch_norm(network, CPU) is network
    monkeypatch.setattr("pipeline.train.batch_norm.num_workers", lambda: 2)
    with pytest.raises(UserError, match=r"ray\.train_workers=1"):
        synchronise_batch_norm(network, CPU)

"""Networks of torchvision and timm made with options, and what draws in them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from pipeline.config.student import StudentConfig
from pipeline.config.train import TrainConfig
from pipeline.records.spec import recorded_fields
from pipeline.student.backbone import build_backbone, check_backbone
from shards.errors import UserError

VIT = "timm:test_vit"
SMALL_VIT = {"img_size": 16, "patch_size": 4}


def student(architecture: str, **options: Any) -> StudentConfig:
    return StudentConfig.model_validate({"architecture": architecture, "options": options})


def side_of(config: StudentConfig) -> int:
    return 16 if config.architecture == VIT else 32


def images(side: int) -> Tensor:
    return torch.randn(4, 3, side, side, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("config", "dim"),
    [
        (student(VIT, **SMALL_VIT), 64),
        (student(VIT, **SMALL_VIT, embed_dim=32, global_pool="avg"), 32),
        (student("timm:test_convnext", dims=[8, 16, 24, 40], depths=[1, 1, 1, 1]), 40),
        (student("timm:xcit_nano_12_p8_224", depth=1, embed_dim=32), 32),
        (student("mobilenet_v3_small", reduced_tail=True), 512),
    ],
    ids=lambda value: str(getattr(value, "architecture", "")),
)
def test_option_reaches_the_constructor_and_the_representation_has_its_width(
    config: StudentConfig, dim: int
) -> None:
    check_backbone(config, side_of(config))
    backbone = build_backbone(config, seed=0)
    assert backbone.representation_dim == dim
    assert backbone(images(side_of(config))).shape == (4, dim)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (student(VIT, im_size=16), ["'im_size'", "did you mean img_size?"]),
        (student(VIT, qqqq=1), ["'qqqq'", "known are img_size, patch_size", "more"]),
        (
            student(VIT, embed_dim=33),
            ["options.embed_dim:", "divisible", "change it or leave it out"],
        ),
        (student(VIT, depth=1, patch_size="a"), ["options.patch_size:"]),
        (student(VIT, drop_path_rate=-1), ["options.drop_path_rate=-1", "[0, 1]"]),
        (student("mobilenet_v3_small", drop=0.1), ["options.drop:", "did you mean dropout?"]),
        (student(VIT, num_classes=3), ["options.num_classes", "leave it out"]),
        (student(VIT, pretrained=True), ["options.pretrained", "train.init"]),
        (student("mobilenet_v3_small", weights="DEFAULT"), ["options.weights", "train.init"]),
    ],
)
def test_option_that_is_none_is_named_in_one_line(config: StudentConfig, words: list[str]) -> None:
    with pytest.raises(UserError, match=r"train\.student\.options") as raised:
        build_backbone(config, seed=0)
    assert all(word in str(raised.value) for word in words), raised.value
    assert "\n" not in str(raised.value)


def test_resnet_with_a_stem_to_choose_takes_no_options() -> None:
    with pytest.raises(ValueError, match="timm:resnet18"):
        student("resnet18", zero_init_residual=False)


def test_network_of_another_size_is_told_of_the_option() -> None:
    with pytest.raises(UserError, match=r"224.*train\.student\.options.* img_size"):
        check_backbone(student("timm:vit_tiny_patch16_224", depth=1), 16)


def test_options_are_in_the_record_only_where_there_are_any() -> None:
    assert "options" not in recorded_fields(TrainConfig())["student"]
    made = TrainConfig(student=student(VIT, **SMALL_VIT))
    assert recorded_fields(made)["student"]["options"] == SMALL_VIT


def draws(config: StudentConfig) -> bool:
    """Whether two passes of a network in training differ."""
    backbone, given = build_backbone(config, seed=0).train(), images(side_of(config))
    torch.manual_seed(0)
    return not torch.equal(backbone(given), backbone(given))


@pytest.mark.parametrize(
    ("architecture", "fixed", "asking"),
    [
        (VIT, SMALL_VIT, {"drop_path_rate": 0.5}),
        (VIT, SMALL_VIT, {"proj_drop_rate": 0.5}),
        (VIT, SMALL_VIT, {"attn_drop_rate": 0.5}),
        ("timm:test_convnext", {"drop_rate": 0}, {"drop_path_rate": 0.5}),
        ("mobilenet_v3_small", {"reduced_tail": True}, {"dropout": 0.5}),
        ("convnext_tiny", {"layer_scale": 0.1}, {"stochastic_depth_prob": 0.5}),
    ],
)
def test_network_draws_while_it_trains_only_where_an_option_asks(
    architecture: str, fixed: dict[str, Any], asking: dict[str, Any]
) -> None:
    assert not draws(student(architecture, **fixed))
    assert draws(student(architecture, **fixed, **asking))


def test_asking_for_stochastic_depth_leaves_dropout_off() -> None:
    network = build_backbone(student("efficientnet_b0", stochastic_depth_prob=0.3), seed=0)
    dropout = [m.p for m in network.modules() if isinstance(m, torch.nn.Dropout)]
    depth = [m.p for m in network.modules() if type(m).__name__ == "StochasticDepth"]
    assert dropout == [0.0]
    assert max(depth) > 0.2

"""The student as feature maps: dilated, partly fixed, under a feature pyramid."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import resnet50

from pipeline.eval.dense.feature_maps import (
    FeatureMaps,
    FixedBatchNorm,
    dilate,
    fix_batch_norm,
    freeze,
    layer_channels,
)
from pipeline.student.backbone import StudentResNet
from tests.support.dense_sets import make_backbone

SIDE = 64


def draw_images(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def student(architecture: str, stem: str, width: int = 8) -> StudentResNet:
    """In float64."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = StudentResNet(architecture, width, stem)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.running_mean, std=0.1)
    return network.double()


@pytest.mark.parametrize(("stem", "stride"), [("cifar", 1), ("imagenet", 4)])
@pytest.mark.parametrize("architecture", ["resnet18", "resnet50"])
def test_feature_maps_are_those_behind_the_representation(
    architecture: str, stem: str, stride: int
) -> None:
    network = student(architecture, stem).eval()
    images = draw_images(2, 3, SIDE, SIDE)
    with torch.no_grad():
        maps = FeatureMaps(network)(images)
        representation = network(images)
    assert [part.shape[1] for part in maps] == layer_channels(network)
    assert [part.shape[2] for part in maps] == [SIDE // stride // 2**k for k in range(4)]
    torch.testing.assert_close(maps[-1].mean((2, 3)), representation)


@pytest.mark.parametrize("stem", ["cifar", "imagenet"])
@pytest.mark.parametrize("architecture", ["resnet18", "resnet50"])
def test_dilate_keeps_values_and_adds_those_between(architecture: str, stem: str) -> None:
    network = student(architecture, stem).eval()
    images = draw_images(1, 3, SIDE, SIDE + 32)
    with torch.no_grad():
        before = FeatureMaps(network)(images)
        dilate(network)
        after = FeatureMaps(network)(images)
    for index, step in enumerate((1, 1, 2, 4)):
        expected = before[index]
        torch.testing.assert_close(after[index][..., ::step, ::step], expected)
        assert after[index].shape[2:] == (expected.shape[2] * step, expected.shape[3] * step)


def test_dilate_is_torchvisions_for_bottlenecks() -> None:
    network = student("resnet50", "imagenet", width=64).eval()
    theirs = resnet50(replace_stride_with_dilation=[False, True, True]).double().eval()
    theirs.fc = nn.Identity()
    theirs.load_state_dict(network.state_dict())
    dilate(network)
    images = draw_images(1, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(network(images), theirs(images))


@pytest.mark.parametrize(
    ("last", "parts"),
    [
        ("none", ()),
        ("stem", ("conv1", "bn1")),
        ("layer1", ("conv1", "bn1", "layer1")),
        ("layer4", ("conv1", "bn1", "layer1", "layer2", "layer3", "layer4")),
    ],
)
def test_freeze_leaves_only_later_parts_to_train(last: str, parts: tuple[str, ...]) -> None:
    network = make_backbone().double()
    freeze(network, last)
    network.train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    if trained:
        network(draw_images(4, 3, 32, 32)).square().sum().backward()
        torch.optim.SGD(trained, lr=0.1).step()
    changed = {
        name.split(".")[0]
        for name, value in network.state_dict().items()
        if not torch.equal(value, before[name])
    }
    assert changed == {"conv1", "bn1", "layer1", "layer2", "layer3", "layer4"} - set(parts)


def test_fix_batch_norm_keeps_what_the_network_computes_in_evaluation() -> None:
    network, images = make_backbone().double(), draw_images(4, 3, 32, 32)
    with torch.no_grad():
        network(images)  # gathers statistics
        expected = network.eval()(images)
        fix_batch_norm(network)
        torch.testing.assert_close(network.train()(images), expected)
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(norms) == 20
    assert all(isinstance(norm, FixedBatchNorm) for norm in norms)
    assert not any(value.requires_grad for norm in norms for value in norm.parameters())

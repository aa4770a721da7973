"""The student's networks: what torchvision loads, the layers METHOD lists, and initial weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.models import resnet18

from pipeline.config.student import StudentConfig
from pipeline.student.backbone import Normalise, build_backbone, load_backbone
from pipeline.train.projector import build_projector
from pipeline.train.squeeze import SqueezeModule
from shards.errors import UserError
from tests.support.tiny_shards import TRAIN_CONFIG
from tests.support.trainings import make_method


def perturb(network: nn.Module) -> nn.Module:
    """Move every weight and statistic off its initial value; zero-initialised branches too."""
    generator = torch.Generator().manual_seed(0)
    for value in network.state_dict().values():
        if value.is_floating_point():
            value.add_(0.05 * torch.rand(value.shape, generator=generator))
    return network.eval()


def plain_resnet(stem: str) -> nn.Module:
    network = resnet18()
    if stem == "cifar":
        network.conv1 = nn.Conv2d(3, 64, 3, stride=1, padding=1, bias=False)
        network.maxpool = nn.Identity()
    network.fc = nn.Identity()
    return network.eval()


@pytest.mark.parametrize(("stem", "side"), [("cifar", 16), ("imagenet", 48)])
def test_backbone_of_width_64_loads_into_torchvision_and_agrees(stem: str, side: int) -> None:
    config = StudentConfig.model_validate({"width": 64, "stem": stem})
    backbone = perturb(build_backbone(config, seed=0))
    reference = plain_resnet(stem)
    reference.load_state_dict(backbone.state_dict(), strict=True)
    images = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        found, expected = backbone(images), reference(images)
    assert found.shape == (2, 512)
    # the same kernels on the same tensors
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("stem", ["cifar", "imagenet"])
@pytest.mark.parametrize("width", [8, 16, 48, 128])
def test_backbone_of_another_width_scales_every_stage(width: int, stem: str) -> None:
    config = StudentConfig.model_validate({"width": width, "stem": stem})
    backbone = build_backbone(config, seed=0).eval()
    state = backbone.state_dict()
    reference = plain_resnet(stem).state_dict()
    assert list(state) == list(reference)
    for name, value in state.items():
        expected = tuple(
            size if (name == "conv1.weight" and axis > 0) or axis > 1 else size * width // 64
            for axis, size in enumerate(reference[name].shape)
        )
        assert value.shape == expected, name
    assert backbone.representation_dim == 8 * width
    with torch.no_grad():
        assert backbone(torch.zeros(1, 3, 16, 16)).shape == (1, 8 * width)


def test_backbone_residual_branches_start_at_zero() -> None:
    state = build_backbone(StudentConfig(width=8), seed=0).state_dict()
    last = [value for name, value in state.items() if name.endswith("bn2.weight")]
    assert len(last) == 8
    assert all(value.abs().max() == 0 for value in last)


def states_equal(first: nn.Module, second: nn.Module) -> bool:
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return all(torch.equal(one, other) for one, other in pairs)


def test_initial_backbone_depends_on_the_seed_only() -> None:
    config = TRAIN_CONFIG.student
    torch.manual_seed(1)
    first = build_backbone(config, seed=7)
    torch.manual_seed(2)
    second = build_backbone(config, seed=7)
    assert states_equal(first, second)
    assert not states_equal(first, build_backbone(config, seed=8))


def test_initial_backbone_of_a_method_does_not_depend_on_its_other_networks() -> None:
    wide = TRAIN_CONFIG.model_copy(
        update={"student": StudentConfig(width=8, projector_layers=3, embedding_dim=24)}
    )
    first = make_method(TRAIN_CONFIG, [4, 4]).backbone
    assert states_equal(first, make_method(wide, [4, 4, 6]).backbone)
    assert states_equal(first, build_backbone(TRAIN_CONFIG.student, TRAIN_CONFIG.seed))


def test_building_networks_leaves_the_global_random_state_alone() -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    make_method(TRAIN_CONFIG, [4, 4])
    assert torch.equal(torch.rand(3), expected)


def test_building_a_method_twice_gives_the_same_weights() -> None:
    assert states_equal(make_method(TRAIN_CONFIG, [4, 4]), make_method(TRAIN_CONFIG, [4, 4]))


def layer_kinds(network: nn.Sequential) -> list[str]:
    return [
        f"Linear {layer.in_features}-{layer.out_features}{'' if layer.bias is None else ' bias'}"
        if isinstance(layer, nn.Linear)
        else type(layer).__name__
        for layer in network
    ]


def test_projector_has_five_layers_without_bias_as_the_paper_says() -> None:
    hidden = ["Linear 64-64", "BatchNorm1d", "ReLU"]
    student = StudentConfig(projector_layers=5)
    assert layer_kinds(build_projector(64, 32, student)) == hidden * 4 + ["Linear 64-32"]


def test_projector_has_hidden_layers_of_another_width_where_it_is_set() -> None:
    found = layer_kinds(
        build_projector(64, 32, StudentConfig(projector_layers=3, projector_hidden=48))
    )
    linear = [kind for kind in found if kind.startswith("Linear")]
    assert linear == ["Linear 64-48", "Linear 48-48", "Linear 48-32"]


def test_squeeze_module_head_has_the_papers_layers() -> None:
    hidden = ["Linear 16-16", "BatchNorm1d", "ReLU"]
    squeeze = SqueezeModule([4, 6], 16)
    assert layer_kinds(squeeze.head) == [*hidden, *hidden, "Linear 16-16 bias"]
    for layer, channels in zip(squeeze.blocks, [4, 6], strict=True):
        assert isinstance(layer, nn.Linear)
        assert layer.weight.shape == (16, channels)
        assert layer.bias is not None


def test_squeeze_module_sums_one_linear_map_per_block() -> None:
    squeeze = SqueezeModule([4, 6, 2], 16)
    pooled = torch.randn(5, 12)
    blocks = [layer.weight for layer in squeeze.blocks]
    total: Tensor = torch.zeros(5, 16)
    start = 0
    for layer, weight in zip(squeeze.blocks, blocks, strict=True):
        part = pooled[:, start : start + weight.shape[1]]
        total = total + part @ weight.T + layer.bias
        start += weight.shape[1]
    squeeze.eval()
    torch.testing.assert_close(squeeze(pooled), squeeze.head(total), rtol=1e-4, atol=1e-5)


def test_load_backbone_saved_weights_are_the_same_network(tmp_path: Path) -> None:
    config = TRAIN_CONFIG.student
    backbone = perturb(build_backbone(config, seed=0))
    save_file(backbone.state_dict(), tmp_path / "student.safetensors")
    assert states_equal(load_backbone(config, tmp_path / "student.safetensors"), backbone)


@pytest.mark.parametrize("damage", ["missing", "truncated", "another width"])
def test_load_backbone_unusable_file_is_named(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "student.safetensors"
    if damage != "missing":
        width = 16 if damage == "another width" else 8
        save_file(build_backbone(StudentConfig(width=width), seed=0).state_dict(), path)
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"student\.safetensors"):
        load_backbone(TRAIN_CONFIG.student, path)


def test_normalise_bytes_and_floats_give_the_same_standardised_images() -> None:
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
    images = torch.randint(0, 256, (2, 3, 4, 4), dtype=torch.uint8)
    normalise = Normalise(mean, std)
    floats = images.float() / 255
    expected = torch.stack([(floats[:, c] - mean[c]) / std[c] for c in range(3)], 1)
    torch.testing.assert_close(normalise(images), expected)
    torch.testing.assert_close(normalise(floats), expected)

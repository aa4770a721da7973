"""Weights of files and of libraries' caches, fitted to a backbone."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision import models

from pipeline.config.student import StudentConfig
from pipeline.student.backbone import Backbone, build_backbone
from pipeline.student.pretrained import (
    fit_weights,
    read_weights,
    timm_file,
    timm_weights,
    torchvision_file,
)
from shards.errors import UserError

NARROW = StudentConfig(width=4)


def student(architecture: str, **options: Any) -> StudentConfig:
    return StudentConfig.model_validate({"architecture": architecture, "options": options})


def backbone(config: StudentConfig = NARROW) -> Backbone:
    return build_backbone(config, seed=0)


def state_of(config: StudentConfig = NARROW, seed: int = 1) -> dict[str, Tensor]:
    return dict(build_backbone(config, seed).state_dict())


def fitted(found: Any) -> dict[str, Tensor]:
    return fit_weights(backbone(), found, "here")


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in found.items())


def test_weights_of_safetensors_and_of_torch_fit_with_a_classifier_or_without(
    tmp_path: Path,
) -> None:
    expected = state_of()
    save_file(expected, tmp_path / "a.safetensors")
    assert_same(fitted(read_weights(tmp_path / "a.safetensors")), expected)
    with_classifier = {**expected, "fc.weight": torch.ones(3, 32), "fc.bias": torch.ones(3)}
    torch.save(with_classifier, tmp_path / "a.pt")
    assert_same(fitted(read_weights(tmp_path / "a.pt")), expected)


def test_network_is_found_within_a_dictionary_behind_a_prefix_in_half_precision() -> None:
    expected = state_of()
    nested = {
        "epoch": 3,
        "state_dict": {
            **{f"module.encoder.{name}": value.half() for name, value in expected.items()},
            "module.projector.0.weight": torch.ones(2),
        },
    }
    found = fitted(nested)
    assert {value.dtype for value in found.values()} == {torch.float32, torch.int64}
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)  # of half precision


def test_weights_without_counters_of_batches_fit() -> None:
    old = {name: value for name, value in state_of().items() if "num_batches" not in name}
    assert_same(fitted(old), state_of())


def test_what_is_missing_left_over_or_of_another_shape_is_named() -> None:
    found = state_of()
    del found["layer4.1.bn2.bias"]
    found["layer5.weight"] = torch.ones(1)
    found["conv1.weight"] = torch.ones(4, 3, 7, 7)
    with pytest.raises(UserError) as raised:
        fitted(found)
    for words in (
        "missing: layer4.1.bn2.bias",
        "left over: layer5.weight",
        "conv1.weight [4, 3, 7, 7] for [4, 3, 3, 3]",
    ):
        assert words in str(raised.value)


def test_long_list_of_names_is_cut() -> None:
    with pytest.raises(UserError, match=r"missing: (\S+, ){4}\S+ and \d+ more"):
        fitted({"other": torch.ones(1)})


def test_file_with_two_networks_of_the_kind_is_refused() -> None:
    both = {
        f"{part}.{name}": v for part in ("student", "teacher") for name, v in state_of().items()
    }
    with pytest.raises(UserError, match="holds 2 networks"):
        fitted(both)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda value: value.int(), "integers: conv1.weight"),
        (lambda value: value / 0, "not finite: conv1.weight"),
        (lambda value: value.to(torch.complex64), "missing: conv1.weight"),
        (lambda value: value.to_sparse(), "missing: conv1.weight"),
        (lambda value: value.to("meta"), "missing: conv1.weight"),
        (lambda value: value.bool(), "integers: conv1.weight"),
    ],
)
def test_tensors_that_are_no_weights_are_named(change: Any, words: str) -> None:
    found = {5: torch.ones(1), **state_of()}  # not every key is a name
    found["conv1.weight"] = change(found["conv1.weight"])
    with pytest.raises(UserError, match=words):
        fitted(found)


def test_dictionary_in_itself_is_looked_at_once_and_one_without_weights_refused() -> None:
    found: dict[str, Any] = {"weights": state_of()}
    found["all"] = found
    assert_same(fitted(found), state_of())
    for nothing in ({}, {"epoch": 3}):
        with pytest.raises(UserError, match="holds no weights"):
            fitted(nothing)


class Reached(Exception):
    pass


def reach() -> None:
    raise Reached


class Runs:
    def __reduce__(self) -> Any:
        return reach, ()


def test_nothing_in_a_file_is_executed(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    torch.save({"state_dict": Runs()}, path)
    with pytest.raises(UserError, match=r"a\.pt.*not tensors alone but \S+reach; .*safetensors"):
        read_weights(path)
    path.write_bytes(pickle.dumps(Runs()))
    with pytest.raises(UserError, match=r"a\.pt"):
        read_weights(path)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"hello" * 9])
def test_file_of_something_else_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "weights.bin").write_bytes(content)
    with pytest.raises(UserError, match=r"train\.init: .*weights\.bin.*save it again"):
        read_weights(tmp_path / "weights.bin")


@pytest.fixture
def downloads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Empty folders where torch and the model hub keep what they download."""
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    return tmp_path


def test_torchvisions_weights_are_taken_from_its_downloads_and_never_fetched(
    downloads: Path,
) -> None:
    config, name = student("mobilenet_v3_small"), "MobileNet_V3_Small_Weights.IMAGENET1K_V1"
    with pytest.raises(UserError, match=r"is not there; download it with `python -c") as raised:
        torchvision_file(config, name)
    assert f"{name}.get_state_dict()" in str(raised.value)
    network = models.mobilenet_v3_small()
    torch.save(network.state_dict(), downloads / "checkpoints" / "mobilenet_v3_small-047dcff4.pth")
    found = fit_weights(backbone(config), read_weights(torchvision_file(config, name)), "here")
    network.classifier[3] = nn.Identity()
    assert_same(found, network.state_dict())


def put_into_hub_cache(folder: Path, repository: str, state: dict[str, Tensor]) -> None:
    cached = folder / f"models--{repository.replace('/', '--')}"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text("a" * 40)
    snapshot = cached / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    save_file(state, snapshot / "model.safetensors")


def test_timms_weights_are_taken_from_the_hubs_cache_and_fitted_to_another_size(
    downloads: Path,
) -> None:
    config = student("timm:test_vit", img_size=32, patch_size=16)
    with pytest.raises(UserError, match=r"`hf download timm/test_vit\.r160_in1k`"):
        timm_file(config, "r160_in1k")
    network = timm.create_model("test_vit")
    put_into_hub_cache(downloads, "timm/test_vit.r160_in1k", dict(network.state_dict()))
    path = timm_file(config, "r160_in1k")
    found = fit_weights(backbone(config), timm_weights(config, "r160_in1k", path), "here")
    assert found["pos_embed"].shape == (1, 5, 64)
    for name, value in found.items():
        assert name == "pos_embed" or torch.equal(value, network.state_dict()[name])


@pytest.mark.parametrize(
    ("architecture", "find", "name", "words"),
    [
        ("resnet18", torchvision_file, "ResNet18_Weights.IMAGENET1K_V2", "IMAGENET1K_V1?"),
        ("timm:test_vit", torchvision_file, "ViT_B_16_Weights.X", "take timm:TAG"),
        ("timm:test_vit", timm_file, "r160_in2k", "r160_in1k?"),
        ("mobilenet_v3_small", timm_file, "x", "torchvision:ENUM"),
    ],
)
def test_weights_that_the_architecture_does_not_have_are_named(
    architecture: str, find: Any, name: str, words: str
) -> None:
    with pytest.raises(UserError, match=r"^train\.init=") as raised:
        find(student(architecture), name)
    assert words in str(raised.value)

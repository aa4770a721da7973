"""Projected GAN's files: golden numbers, both depths, classes, sizes, modules and states."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.teacher.architectures.projected_gan import ProjectedGANArchitecture
from pipeline.teacher.checkpoint import load_generator
from pipeline.teacher.features import captured
from pipeline.teacher.importing.checkpoint import import_teacher
from pipeline.teacher.interface import TeacherGenerator
from pipeline.teacher.networks.projected_gan import ProjectedGANGenerator
from shards.errors import UserError
from tests.support.golden_files import Golden, assert_close, import_golden
from tests.support.spectral_files import state_of, with_spectral_norm
from tests.support.tiny_teachers import projected_gan, with_statistics

WIDTHS = (4, 3, 3, 2, 2, 2, 1, 1, 1)


@pytest.fixture(scope="module")
def golden(tmp_path_factory: pytest.TempPathFactory) -> Golden:
    folder = tmp_path_factory.mktemp("projected") / "teacher"
    return import_golden("projectedgan-fastgan-tiny.pkl", folder)


def generator_of(num_resolutions: int, **changes: Any) -> ProjectedGANGenerator:
    """As the repository runs it."""
    arch = ProjectedGANArchitecture(5, WIDTHS[:num_resolutions], **changes)
    return with_spectral_norm(with_statistics(ProjectedGANGenerator, arch))


def draw(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def assert_same_outputs(found: TeacherGenerator, wanted: ProjectedGANGenerator) -> None:
    """The image, and every block: of a random network an image may show little of what is below."""
    z, num_classes = draw(2, 5), wanted.arch.num_classes
    noise = [draw(2, 1, side, side) for side in wanted.noise_resolutions]
    labels = torch.eye(num_classes)[[1, 0]] if num_classes else None
    assert list(found.noise_resolutions) == list(wanted.noise_resolutions)
    assert found.blocks == wanted.blocks
    with captured(found, found.blocks) as maps, captured(wanted, wanted.blocks) as wanted_maps:
        image = found(z, noise, labels=labels).image
        assert_close(image, wanted(z, noise, labels=labels).image)
    for name in wanted.blocks:
        assert_close(maps[name], wanted_maps[name])


def test_golden_features_are_those_of_the_reference(golden: Golden) -> None:
    golden.assert_pooled_features()
    blocks = ("init", "feat_8", "feat_16", "feat_32", "se_64", "se_128")
    assert golden.info.blocks == tuple(f"synthesis.{name}" for name in blocks)


def test_golden_images_are_those_of_the_reference(golden: Golden) -> None:
    image = golden.render().image
    assert_close(image[:, :, 1::4, 1::4], golden.wanted["image_no_noise_every_4"])
    mean = F.adaptive_avg_pool2d(image, 8)
    assert_close(mean, golden.wanted["image_no_noise_mean_8x8"])


def test_import_says_whose_weights_are_taken_and_what_is_left_out(golden: Golden) -> None:
    origin = golden.info.origin
    assert (origin["layout"], origin["weights"]) == ("Projected GAN", "G_ema")
    assert origin["is_averaged"] is True
    assert any("discriminator" in note for note in origin["notes"])
    assert golden.info.discriminator is None


@pytest.mark.parametrize(
    ("num_resolutions", "changes"),
    [
        (6, {"is_lite": True}),
        (7, {}),
        (7, {"num_classes": 3}),
        (7, {"num_classes": 3, "is_lite": True}),
        (8, {"num_classes": 2}),
        (9, {"is_lite": True}),
    ],
    ids=["lite-128", "full-256", "classes-256", "lite-classes-256", "classes-512", "lite-1024"],
)
def test_import_modules_of_any_kind_make_the_same_images(
    num_resolutions: int, changes: dict[str, Any], tmp_path: Path
) -> None:
    reference = generator_of(num_resolutions, **changes)
    content = {"G": projected_gan(), "D": None, "G_ema": reference, "progress": {"cur_nimg": 3}}
    (tmp_path / "network.pkl").write_bytes(pickle.dumps(content))
    info = import_teacher(tmp_path / "network.pkl", tmp_path / "teacher")
    assert info.generator == reference.arch
    assert_same_outputs(load_generator(tmp_path / "teacher"), reference)


@pytest.mark.parametrize("num_classes", [0, 3])
def test_import_block_of_256_px_is_not_part_of_a_smaller_network(
    num_classes: int, tmp_path: Path
) -> None:
    reference = generator_of(6, num_classes=num_classes)
    larger = generator_of(7, num_classes=num_classes)
    unused = {name: x for name, x in state_of(larger, add="module.").items() if "_256." in name}
    torch.save({"G_ema": state_of(reference, add="module.") | unused}, tmp_path / "state.pt")
    info = import_teacher(tmp_path / "state.pt", tmp_path / "teacher")
    assert info.generator == reference.arch
    assert info.origin["is_averaged"] is True
    assert_same_outputs(load_generator(tmp_path / "teacher"), reference)


def test_import_class_conditional_tensor_that_is_missing_is_named(tmp_path: Path) -> None:
    state = state_of(generator_of(6, num_classes=3))
    del state["synthesis.feat_16.bn2.stored_var"]
    torch.save({"G_ema": state}, tmp_path / "state.pt")
    with pytest.raises(UserError, match=r"missing G_ema\.synthesis\.feat_16\.bn2\.stored_var"):
        import_teacher(tmp_path / "state.pt", tmp_path / "teacher")
    assert not (tmp_path / "teacher").exists()

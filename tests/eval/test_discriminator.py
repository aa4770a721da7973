"""Features of the discriminator of images of any size."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import pytest
import torch
from torch import Tensor

from pipeline.eval.discriminator import DiscriminatorBackbone
from pipeline.student.backbone import Normalise
from pipeline.student.view_size import bring_to_size
from pipeline.teacher.architectures.biggan import BigGANDiscriminatorArchitecture
from pipeline.teacher.architectures.r3gan import R3GANDiscriminatorArchitecture, R3GANStage
from pipeline.teacher.features import captured, pool_features
from pipeline.teacher.networks.biggan import BigGANDiscriminator
from pipeline.teacher.networks.discriminator import Discriminator
from pipeline.teacher.networks.r3gan import R3GANDiscriminator
from tests.support.tiny_shards import DISCRIMINATOR, RESOLUTION, TRAIN_CONFIG


@pytest.fixture(scope="module")
def backbone() -> DiscriminatorBackbone:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return DiscriminatorBackbone(Discriminator(DISCRIMINATOR), "multi", TRAIN_CONFIG).eval()


def normalised(images: Tensor) -> Tensor:
    result: Tensor = Normalise(TRAIN_CONFIG.pixel_mean, TRAIN_CONFIG.pixel_std)(images)
    return result


@pytest.mark.parametrize("side", [RESOLUTION // 2, RESOLUTION, 24])
@torch.no_grad()
def test_features_are_those_of_the_images_at_the_discriminators_size(
    backbone: DiscriminatorBackbone, side: int
) -> None:
    images = torch.rand(4, 3, side, side, generator=torch.Generator().manual_seed(1))
    found = backbone(normalised(images))
    expected = backbone(normalised(bring_to_size(images, RESOLUTION)))
    # normalised, and back, before the resampling or after
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("level", "num_features"), [("multi", 7 + 5 + 4 + 5), ("single", 5)])
@torch.no_grad()
def test_features_of_a_conditional_r3gan_are_its_stages_and_the_last_basis(
    level: Literal["multi", "single"], num_features: int
) -> None:
    stages = (R3GANStage(6, 1, 12, 3), R3GANStage(7, 1, 12, 3), R3GANStage(5, 1, 12, 3))
    arch = R3GANDiscriminatorArchitecture(stages, num_classes=3, embedding_width=4)
    discriminator = R3GANDiscriminator(arch)
    backbone = DiscriminatorBackbone(discriminator, level, TRAIN_CONFIG).eval()
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    features = backbone(normalised(images))
    assert features.shape == (2, num_features)
    assert features.std(0).min() > 0


@pytest.mark.parametrize(("level", "num_features"), [("multi", 8 + 8 + 12 + 12), ("single", 12)])
@torch.no_grad()
def test_features_of_a_biggan_are_its_blocks_with_attention_and_what_its_logit_sums(
    level: Literal["multi", "single"], num_features: int
) -> None:
    arch = BigGANDiscriminatorArchitecture(32, (8, 12), 1, num_classes=3, attention=(0,))
    backbone = DiscriminatorBackbone(BigGANDiscriminator(arch), level, TRAIN_CONFIG).eval()
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    features = backbone(normalised(images))
    assert features.shape == (2, num_features)
    assert features.std(0).max() > 0


@torch.no_grad()
def test_features_of_a_discriminator_of_transparent_images_are_those_of_opaque_ones() -> None:
    discriminator = Discriminator(replace(DISCRIMINATOR, image_channels=4))
    backbone = DiscriminatorBackbone(discriminator, "single", TRAIN_CONFIG).eval()
    images = torch.rand(4, 3, RESOLUTION, RESOLUTION, generator=torch.Generator().manual_seed(1))
    opaque = torch.cat([2 * images - 1, torch.ones_like(images[:, :1])], 1)
    with captured(discriminator.feature_root, [discriminator.last]) as found:
        discriminator(opaque)
    expected = pool_features(found)
    torch.testing.assert_close(backbone(normalised(images)), expected, rtol=1e-4, atol=1e-5)

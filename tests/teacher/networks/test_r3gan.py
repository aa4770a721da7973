"""R3GAN's networks: what they refuse, and how they compute."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from pipeline.teacher.architectures.r3gan import (
    R3GANArchitecture,
    R3GANDiscriminatorArchitecture,
    R3GANStage,
)
from pipeline.teacher.features import captured
from pipeline.teacher.networks.r3gan import R3GANDiscriminator, R3GANGenerator
from tests.support.tiny_teachers import NUM_CLASSES, r3gan

STAGES = (R3GANStage(6, 1, 12, 3), R3GANStage(8, 2, 16, 4))


def draw(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def one_hot(*classes: int) -> Tensor:
    return torch.eye(NUM_CLASSES)[list(classes)]


@pytest.fixture(scope="module")
def generator() -> R3GANGenerator:
    return r3gan()


@pytest.fixture(scope="module")
def discriminator() -> R3GANDiscriminator:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        arch = R3GANDiscriminatorArchitecture(STAGES, num_classes=NUM_CLASSES, embedding_width=5)
        return R3GANDiscriminator(arch).eval().requires_grad_(False)


def test_generator_sample_does_not_depend_on_its_neighbours(generator: R3GANGenerator) -> None:
    z, labels = draw(5, 6), one_hot(0, 3, 1, 1, 4)
    whole = generator(z, labels=labels).image
    parts = [generator(z[i : i + 2], labels=labels[i : i + 2]).image for i in range(0, 5, 2)]
    torch.testing.assert_close(torch.cat(parts), whole, rtol=1e-5, atol=1e-5)  # order of sums
    assert (whole[2] - generator(z[2:3], labels=one_hot(0)).image).abs().max() > 0.01


def test_generator_truncation_is_refused(generator: R3GANGenerator) -> None:
    with pytest.raises(ValueError, match="truncation_psi"):
        generator(draw(1, 6), labels=one_hot(0), truncation_psi=0.7)


def test_networks_labels_that_do_not_fit_are_refused(
    generator: R3GANGenerator, discriminator: R3GANDiscriminator
) -> None:
    for labels in (None, torch.zeros(2, NUM_CLASSES + 1)):
        with pytest.raises(ValueError, match=f"labels: this network has {NUM_CLASSES} classes"):
            generator(draw(2, 6), labels=labels)
        with pytest.raises(ValueError, match=f"labels: this network has {NUM_CLASSES} classes"):
            discriminator(draw(2, 3, 8, 8), labels)


def test_set_precision_bfloat16_runs_the_stages_made_for_it() -> None:
    generator = r3gan()
    z, labels = draw(4, 6), one_hot(0, 1, 2, 3)
    names = ["Model.MainLayers.0", "Model.MainLayers.1.Layers.1.LinearLayer1"]
    exact = generator(z, labels=labels).image
    generator.set_precision(torch.bfloat16)
    with captured(generator, names) as found:
        image = generator(z, labels=labels).image
    assert [found[name].dtype for name in names] == [torch.float32, torch.bfloat16]
    assert image.dtype == torch.float32
    # 2^-9 relative for each rounding, some twenty of them in a row
    assert 0 < (image - exact).abs().max() <= 0.04 * exact.abs().max()
    generator.set_precision(torch.float32)
    assert torch.equal(generator(z, labels=labels).image, exact)


def test_half_stages_where_nothing_says_are_the_highest_four() -> None:
    stages = (STAGES[0],) * 6
    assert R3GANArchitecture(6, stages).half_stages == (False, False, True, True, True, True)
    assert R3GANArchitecture(6, STAGES).half_stages == (True, True)


def test_discriminator_logit_is_the_classes_product_with_the_last_block(
    discriminator: R3GANDiscriminator,
) -> None:
    images, labels = draw(3, 3, 8, 8), one_hot(2, 0, 4)
    with captured(discriminator, [*discriminator.blocks, discriminator.last]) as found:
        logits = discriminator(images, labels)
    shapes = [tuple(feature.shape) for feature in found.values()]
    assert shapes == [(3, 8, 4, 4), (3, 8, 1, 1), (3, 5)]
    weight = discriminator.Model.EmbeddingLayer.weight
    wanted = (found["Model.MainLayers.1"] * weight.T[[2, 0, 4]]).sum(1)
    torch.testing.assert_close(logits[:, 0], wanted)


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        (replace(STAGES[0], num_groups=5), r"stages\[1\]\.num_groups: 5 do not divide 12"),
        (replace(STAGES[0], kernel=4), r"stages\[1\]\.kernel"),
        (replace(STAGES[0], num_blocks=0), r"stages\[1\]\.num_blocks"),
        (replace(STAGES[0], num_channels=1 << 20), r"stages\[1\]\.num_channels"),
    ],
)
def test_architecture_of_impossible_sizes_is_refused(stage: R3GANStage, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        R3GANArchitecture(6, (STAGES[1], stage))
    with pytest.raises(ValueError, match=message):
        R3GANDiscriminatorArchitecture((STAGES[1], stage))


def test_architecture_classes_without_an_embedding_are_refused() -> None:
    with pytest.raises(ValueError, match="num_classes"):
        R3GANArchitecture(6, STAGES, num_classes=3)

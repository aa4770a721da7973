"""FastGAN's networks and Projected GAN's: noise, classes, sizes, and the small image."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pipeline.teacher.architectures.fastgan import (
    FastGANArchitecture,
    FastGANDiscriminatorArchitecture,
)
from pipeline.teacher.architectures.projected_gan import ProjectedGANArchitecture
from pipeline.teacher.features import captured
from pipeline.teacher.interface import GeneratorOutput, TeacherGenerator
from pipeline.teacher.networks.fastgan import FastGANGenerator
from pipeline.teacher.networks.fastgan_discriminator import FastGANDiscriminator
from tests.support.tiny_teachers import fastgan, projected_gan, with_statistics

CLASSES = 3


def draw(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def draw_noise(generator: TeacherGenerator, batch: int) -> list[Tensor]:
    sides = generator.noise_resolutions
    return [draw(batch, 1, side, side, seed=index) for index, side in enumerate(sides)]


@pytest.fixture(scope="module")
def generator() -> FastGANGenerator:
    return fastgan()


@pytest.fixture(scope="module", params=["fastgan", "full", "lite", "classes", "lite-classes"])
def any_generator(request: pytest.FixtureRequest) -> TeacherGenerator:
    num_classes = CLASSES * request.param.endswith("classes")
    if request.param == "fastgan":
        return fastgan()
    return projected_gan(is_lite=request.param.startswith("lite"), num_classes=num_classes)


def labels_of(generator: TeacherGenerator, *classes: int) -> Tensor | None:
    num_classes = generator.arch.num_classes
    return torch.eye(num_classes)[list(classes)] if num_classes else None


def test_sample_does_not_depend_on_its_neighbours(any_generator: TeacherGenerator) -> None:
    z, noise = draw(3, 5), draw_noise(any_generator, 3)
    whole = any_generator(z, noise, labels=labels_of(any_generator, 0, 2, 1)).image
    last = [map_[2:] for map_ in noise]
    alone = any_generator(z[2:], last, labels=labels_of(any_generator, 1)).image
    assert (whole[2:] - alone).abs().max() < 1e-5 * whole.abs().max()  # order of sums
    assert (whole[:1] - whole[1:2]).abs().max() > 1e-4


def test_noise_of_a_family_that_stores_none_is_random_or_absent(
    any_generator: TeacherGenerator,
) -> None:
    z, labels = draw(1, 5), labels_of(any_generator, 1)
    none = any_generator(z, "none", labels=labels).image
    zeros = [torch.zeros_like(map_) for map_ in draw_noise(any_generator, 1)]
    torch.testing.assert_close(any_generator(z, zeros, labels=labels).image, none)
    assert torch.equal(any_generator(z, "const", labels=labels).image, none)
    random = any_generator(z, draw_noise(any_generator, 1), labels=labels).image
    has_noise = bool(any_generator.noise_resolutions)
    assert ((random - none).abs().max() > 0.01) == has_noise


def test_fastgan_noise_maps_belong_to_layers_in_order(generator: FastGANGenerator) -> None:
    assert list(generator.noise_resolutions) == [8, 8, 32, 32, 128, 128]
    z, noise = draw(1, 5), draw_noise(generator, 1)
    changed = [*noise[:3], -noise[3], *noise[4:]]
    names = ["feat_32.2", "feat_32.6", "to_big"]
    with captured(generator.feature_root, names) as before:
        generator(z, noise)
    with captured(generator.feature_root, names) as after:
        generator(z, changed)
    assert torch.equal(before["feat_32.2"], after["feat_32.2"])
    assert not torch.equal(before["feat_32.6"], after["feat_32.6"])
    assert not torch.equal(before["to_big"], after["to_big"])


def test_projected_gan_noise_has_two_maps_for_each_full_block() -> None:
    sides = [8, 8, 16, 16, 32, 32, 64, 64, 128, 128]
    assert list(projected_gan().noise_resolutions) == sides
    assert list(projected_gan(num_classes=CLASSES).noise_resolutions) == sides
    assert list(projected_gan(is_lite=True).noise_resolutions) == []


def test_noise_of_another_number_of_maps_is_refused(generator: FastGANGenerator) -> None:
    with pytest.raises(ValueError, match="noise: expected 6 maps, got 5"):
        generator(draw(1, 5), draw_noise(generator, 1)[:5])


def test_truncation_is_refused(any_generator: TeacherGenerator) -> None:
    with pytest.raises(ValueError, match="truncation_psi"):
        any_generator(draw(1, 5), labels=labels_of(any_generator, 0), truncation_psi=0.7)


def test_projected_gan_image_depends_on_the_class() -> None:
    generator = projected_gan(num_classes=CLASSES)
    z = draw(1, 5).expand(CLASSES, -1)
    images = generator(z, labels=torch.eye(CLASSES)).image
    assert (images[0] - images[1]).abs().max() > 0.01
    assert (images[1] - images[2]).abs().max() > 0.01
    for labels in (None, torch.zeros(1, CLASSES + 1)):
        with pytest.raises(ValueError, match="labels: this network has 3 classes"):
            generator(draw(1, 5), labels=labels)


def test_projected_gan_image_does_not_depend_on_the_length_of_the_latent() -> None:
    generator, z = projected_gan(), draw(2, 5)
    torch.testing.assert_close(generator(3 * z).image, generator(z).image)


@pytest.mark.parametrize(("num_resolutions", "side"), [(8, 512), (9, 1024)])
def test_fastgan_larger_images_have_their_gates_and_noise(num_resolutions: int, side: int) -> None:
    generator = fastgan(num_resolutions)
    output = generator(5 * draw(1, 5), draw_noise(generator, 1))
    assert output.image.shape == (1, 3, side, side)
    assert output.small_image is not None
    assert output.small_image.shape == (1, 3, 128, 128)
    expected = ["init", "feat_8", "feat_16", "feat_32", "se_64", "se_128", "se_256", "se_512"]
    assert generator.blocks == [*expected, "feat_1024"][:num_resolutions]
    assert list(generator.noise_resolutions) == [8, 8, 32, 32, 128, 128, 512, 512]
    if side == 1024:  # whose tanh is the only one
        assert output.image.abs().max() <= 1
        assert output.small_image.abs().max() <= 1


@pytest.mark.parametrize("resolution", [256, 512, 1024])
def test_discriminator_judges_patches_of_both_images(resolution: int) -> None:
    widths = (1, 1, 2, 2, 2, 3, 3, 4)[resolution < 1024 :]
    arch = FastGANDiscriminatorArchitecture(resolution, widths)
    discriminator = with_statistics(FastGANDiscriminator, arch)
    image, small = draw(2, 3, resolution, resolution), draw(2, 3, 128, 128)
    step = resolution // 128
    seen = discriminator(image)
    assert seen.shape == (2, 50)
    output = GeneratorOutput(image, draw(2, 1, 5), image[:, :, ::step, ::step])
    torch.testing.assert_close(discriminator.judge(output), seen)
    other = discriminator.judge(GeneratorOutput(image, draw(2, 1, 5), small))
    torch.testing.assert_close(other[:, :25], seen[:, :25])
    assert (other[:, 25:] - seen[:, 25:]).abs().max() > 1e-3
    with captured(discriminator, [*discriminator.blocks, discriminator.last]) as found:
        discriminator(image)
    assert [x.shape[2] for x in found.values()] == [128, 64, 32, 16, 8, 8]


def test_architecture_of_impossible_widths_is_refused() -> None:
    for widths in ((4,) * 6, (4,) * 10, (4, 4, 4, 4, 4, 4, 0)):
        with pytest.raises(ValueError, match="widths"):
            FastGANArchitecture(5, widths)
    for widths in ((4,) * 5, (4,) * 10, (4, 4, 4, 4, 4, 0)):
        with pytest.raises(ValueError, match="widths"):
            ProjectedGANArchitecture(5, widths)
    with pytest.raises(ValueError, match="widths: expected 8 of them, got 7"):
        FastGANDiscriminatorArchitecture(1024, (1,) * 7)
    with pytest.raises(ValueError, match="resolution: must be 256, 512 or 1024, got 128"):
        FastGANDiscriminatorArchitecture(128, (1,) * 7)

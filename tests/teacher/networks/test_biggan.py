"""BigGAN's and BigGAN-deep's networks: what they take and refuse, and what truncation is."""

from __future__ import annotations

import pytest
import torch
from scipy import stats
from torch import nn

from pipeline.generate.plan import make_recipe
from pipeline.teacher.architectures.biggan import (
    BigGANArchitecture,
    BigGANDiscriminatorArchitecture,
)
from pipeline.teacher.draws import draw_inputs
from pipeline.teacher.interface import TeacherGenerator
from pipeline.teacher.networks.attention import Attention
from pipeline.teacher.networks.biggan import BigGANDiscriminator
from pipeline.teacher.networks.biggan_deep import Mixture
from pipeline.teacher.networks.nearest import RepeatedConv, repeat_pixels
from pipeline.teacher.rendered import render_samples, run_generator
from shards.errors import UserError
from tests.support.tiny_teachers import CONFIG, biggan, biggan_deep, fake_info


def draw(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def one_hot(num_classes: int, *classes: int) -> torch.Tensor:
    return torch.eye(num_classes)[list(classes)]


@pytest.fixture(params=[biggan, biggan_deep], scope="module")
def generator(request: pytest.FixtureRequest) -> TeacherGenerator:
    made: TeacherGenerator = request.param()
    return made


def test_generator_sample_does_not_depend_on_its_neighbours(generator: TeacherGenerator) -> None:
    arch = generator.arch
    z, labels = draw(5, arch.z_dim), one_hot(arch.num_classes, 0, 3, 1, 1, 2)
    whole = generator(z, labels=labels).image
    parts = [generator(z[i : i + 2], labels=labels[i : i + 2]).image for i in range(0, 5, 2)]
    torch.testing.assert_close(torch.cat(parts), whole, rtol=1e-4, atol=1e-5)  # order of sums
    other = generator(z[2:3], labels=one_hot(arch.num_classes, 0)).image
    assert (whole[2] - other).abs().max() > 0.01


def test_generator_labels_that_do_not_fit_are_refused(generator: TeacherGenerator) -> None:
    for labels in (None, torch.zeros(2, generator.arch.num_classes + 1)):
        with pytest.raises(ValueError, match="labels: "):
            generator(draw(2, generator.arch.z_dim), labels=labels)


def test_biggan_truncation_is_refused() -> None:
    with pytest.raises(ValueError, match="truncation_psi"):
        biggan()(draw(2, 10), labels=one_hot(4, 0, 1), truncation_psi=0.5)


@pytest.mark.parametrize("truncation", [-0.1, 1.1])
def test_biggan_deep_truncation_out_of_range_is_refused(truncation: float) -> None:
    with pytest.raises(ValueError, match="truncation_psi: must be from 0 to 1"):
        biggan_deep()(draw(1, 6), labels=one_hot(5, 0), truncation_psi=truncation)


def test_biggan_deep_cutoff_is_refused() -> None:
    arguments = {"truncation_psi": 0.5, "truncation_cutoff": 2}
    with pytest.raises(ValueError, match="truncation_cutoff"):
        biggan_deep()(draw(1, 6), labels=one_hot(5, 0), **arguments)
    info = fake_info(biggan_deep())
    with pytest.raises(UserError, match=r"generate\.truncation_cutoff"):
        make_recipe(CONFIG.model_copy(update=arguments), info)


def test_mixture_between_two_rows_gives_the_nearer_one_the_smaller_share() -> None:
    rows = torch.tensor([[0.0], [1.0], [2.0], [3.0], [4.0]])
    for truncation, expected in ((0.0, 0.0), (0.25, 1.0), (1.0, 4.0), (0.3, 1.8), (0.95, 3.2)):
        found = Mixture.of(truncation, len(rows))(rows)
        assert found.item() == pytest.approx(expected, abs=1e-6)


def test_biggan_deep_truncated_latents_are_truncated_normal_and_keep_their_order() -> None:
    z = draw(4000, 3)
    truncated = biggan_deep().truncate_latents(z, 0.5)
    assert truncated.abs().max() < 1
    assert torch.equal(truncated[:, 0].argsort(), z[:, 0].argsort())
    expected = stats.truncnorm(-2, 2, scale=0.5)
    assert stats.kstest(truncated.flatten().numpy(), expected.cdf).pvalue > 1e-4
    assert biggan_deep().truncate_latents(z, 1.0) is z
    extremes = biggan_deep().truncate_latents(torch.tensor([[-9.0, 0.0, 9.0]]), 1 / 2)
    torch.testing.assert_close(extremes, torch.tensor([[-1.0, 0.0, 1.0]]), rtol=1e-3, atol=1e-3)


def test_biggan_deep_samples_of_a_truncation_have_its_latents_and_its_statistics() -> None:
    generator = biggan_deep()
    sampling = make_recipe(CONFIG.model_copy(update={"truncation_psi": 0.6}), fake_info(generator))
    inputs = draw_inputs(generator, sampling.sampling, torch.arange(6).numpy())
    z = generator.truncate_latents(inputs.z, 0.6)
    labels = inputs.one_hot(5)
    samples = render_samples(generator, sampling.sampling, inputs, [])
    assert torch.equal(samples.w, z), "what is stored made the image"
    image = run_generator(generator, sampling.sampling, inputs).image
    assert torch.equal(image, generator(z, labels=labels, truncation_psi=0.6).image)
    assert (image - generator(z, labels=labels).image).abs().max() > 0.01


@pytest.mark.parametrize("side", [4, 16, 20])
def test_repeated_conv_equals_convolution_of_the_doubled_map(side: int) -> None:
    conv = RepeatedConv(5, 7)
    x = draw(2, 5, side, side)
    expected = nn.functional.conv2d(repeat_pixels(x), conv.weight, conv.bias, padding=1)
    torch.testing.assert_close(conv(x), expected, rtol=1e-4, atol=1e-5)


def test_attention_of_narrow_maps_has_at_least_one_channel() -> None:
    layer = Attention(4)
    nn.init.constant_(layer.gamma, 0.5)
    assert layer(draw(2, 4, 8, 8)).shape == (2, 4, 8, 8)


def test_discriminator_that_widens_in_its_second_convolution() -> None:
    arch = BigGANDiscriminatorArchitecture(16, (6, 8), 1, 3, is_wide=False)
    network = BigGANDiscriminator(arch).eval()
    shapes = [network.get_submodule(f"network.blocks.{i}.0.conv1").weight.shape for i in (0, 1)]
    assert [list(shape[:2]) for shape in shapes] == [[3, 3], [6, 6]]
    assert network(draw(2, 3, 16, 16), one_hot(3, 0, 2)).shape == (2, 1)


def test_discriminator_labels_of_another_width_are_refused() -> None:
    network = BigGANDiscriminator(BigGANDiscriminatorArchitecture(16, (6, 8), 1, 3))
    with pytest.raises(ValueError, match="labels: "):
        network(draw(2, 3, 16, 16), torch.zeros(2, 4))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"widths": (8,)}, "widths"),
        ({"widths": (8, 0)}, r"widths\[1\]"),
        ({"attention": (1,)}, "attention"),
        ({"attention": (0, 0)}, "attention"),
        ({"bn_eps": -1e-5}, "bn_eps"),
        ({"bn_eps": float("nan")}, "bn_eps"),
        ({"num_classes": 0}, "num_classes"),
        ({"is_hierarchical": True}, "is_hierarchical"),
        ({"is_hierarchical": True, "shared_dim": 4, "z_dim": 5}, "z_dim"),
        ({"first_side": 1 << 12}, "resolution"),
    ],
)
def test_architecture_out_of_range_is_named(fields: dict[str, object], words: str) -> None:
    usual: dict[str, object] = {"z_dim": 6, "num_classes": 3, "widths": (8, 8)}
    with pytest.raises(ValueError, match=words):
        BigGANArchitecture(**(usual | fields))  # type: ignore[arg-type]

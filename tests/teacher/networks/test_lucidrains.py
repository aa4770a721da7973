"""lucidrains' StyleGAN2: noise, truncation, attention, the first map, and transparency."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.teacher.architectures.lucidrains import (
    LucidrainsArchitecture,
    LucidrainsDiscriminatorArchitecture,
)
from pipeline.teacher.features import captured
from pipeline.teacher.networks.linear_attention import LinearAttention
from pipeline.teacher.networks.lucidrains import Blur, LucidrainsGenerator, NoiseLayer
from pipeline.teacher.networks.lucidrains_discriminator import LucidrainsDiscriminator
from tests.support.tiny_teachers import lucidrains


def draw(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def generator() -> LucidrainsGenerator:
    return lucidrains()


def test_sample_does_not_depend_on_its_neighbours(generator: LucidrainsGenerator) -> None:
    z, noise = draw(3, 6), draw(3, 1, 16, 16)
    whole = generator(z, [noise]).image
    alone = generator(z[2:], [noise[2:]]).image
    assert (whole[2:] - alone).abs().max() < 1e-5 * whole.abs().max()  # order of sums
    assert (whole[0] - whole[1]).abs().max() > 0.01


def test_noise_is_made_uniform_and_shared_by_all_layers(generator: LucidrainsGenerator) -> None:
    assert list(generator.noise_resolutions) == [16]
    z, normal = draw(2, 6), draw(2, 1, 16, 16)
    names = ["GE.blocks.0.conv1", "GE.blocks.0.to_noise1"]
    with captured(generator, names) as found:
        generator(z, [normal])
    uniform = 0.5 * (1 + torch.erf(normal / math.sqrt(2)))[:, 0]
    layer = generator.get_submodule(names[1])
    assert isinstance(layer, NoiseLayer)
    expected = found[names[0]].clone()
    for channel in range(8):
        term = uniform[:, :4, :4] * layer.weight[channel, 0] + layer.bias[channel]
        expected[:, channel] += term.transpose(1, 2)
    torch.testing.assert_close(found[names[1]], expected, rtol=1e-5, atol=1e-5)


def test_noise_that_is_not_random_is_none(generator: LucidrainsGenerator) -> None:
    z = draw(2, 6)
    none = generator(z, "none").image
    assert torch.equal(generator(z, "const").image, none)
    assert (generator(z, [draw(2, 1, 16, 16)]).image - none).abs().max() > 0.01
    with pytest.raises(ValueError, match="noise: expected 1 map, got 2"):
        generator(z, [draw(2, 1, 16, 16)] * 2)


def test_truncation_pulls_the_first_layers_towards_the_mean() -> None:
    generator = lucidrains()
    generator.w_avg.copy_(draw(6))
    z = draw(2, 6)
    ws = generator(z).ws
    assert ws.shape == (2, 3, 6)
    truncated = generator(z, truncation_psi=0.25, truncation_cutoff=2).ws
    expected = generator.w_avg + 0.25 * (ws[:, :2] - generator.w_avg)
    torch.testing.assert_close(truncated[:, :2], expected)
    assert torch.equal(truncated[:, 2], ws[:, 2])
    torch.testing.assert_close(generator(z, truncation_psi=0).ws, generator.w_avg.expand(2, 3, -1))


def test_mapping_sees_the_direction_of_a_latent_alone(generator: LucidrainsGenerator) -> None:
    z = draw(2, 6)
    torch.testing.assert_close(generator(4 * z).ws, generator(z).ws)


def test_first_map_without_a_constant_is_made_of_the_mean_style() -> None:
    arch = LucidrainsArchitecture(6, 1, (4, 4, 4), has_const=False, mapping_lr_mult=0.5)
    generator = LucidrainsGenerator(arch)
    generator.w_avg.copy_(draw(6))
    z = draw(2, 6)
    with captured(generator, ["GE.to_initial_block"]) as found, torch.no_grad():
        ws = generator(z, truncation_psi=0.5, truncation_cutoff=1).ws
        weight = generator.GE.to_initial_block.weight  # [w_dim, C, 4, 4]
    expected = torch.einsum("bi,icxy->bcxy", ws.mean(1), weight)
    torch.testing.assert_close(found["GE.to_initial_block"], expected, rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_linear_attention_equals_the_equations() -> None:
    torch.manual_seed(0)
    layer = LinearAttention(5).double()
    x = draw(2, 5, 4, 4).double()
    weights = dict(layer.named_parameters())
    query = torch.einsum("oi,bixy->boxy", weights["to_q.weight"][:, :, 0, 0], x)
    deep = F.conv2d(x, weights["to_kv.net.0.weight"], padding=1, groups=5)
    pairs = torch.einsum("oi,bixy->boxy", weights["to_kv.net.1.weight"][:, :, 0, 0], deep)
    out = torch.zeros(2, 512, 16, dtype=torch.float64)
    for sample in range(2):
        for head in range(8):
            rows = slice(64 * head, 64 * head + 64)
            q = query[sample, rows].flatten(1).softmax(0) / 8  # [64, 16]
            k = pairs[sample, rows].flatten(1).softmax(1)
            v = pairs[sample, 512 + 64 * head : 512 + 64 * head + 64].flatten(1)
            for position in range(16):
                scores = q[:, position] @ k  # [16]
                out[sample, rows, position] = v @ scores
    expected = F.conv2d(nn.GELU()(out).unflatten(2, (4, 4)), layer.to_out.weight, layer.to_out.bias)
    torch.testing.assert_close(layer(x), expected)


def test_blur_reflects_at_the_borders() -> None:
    x = torch.arange(16.0).reshape(1, 1, 4, 4)
    taps = {-1: 0.25, 0: 0.5, 1: 0.25}
    mirror = [1, 0, 1, 2, 3, 2]  # indices -1 … 4
    expected = torch.zeros(4, 4)
    for row in range(4):
        for column in range(4):
            expected[row, column] = sum(
                a * b * x[0, 0, mirror[row + i + 1], mirror[column + j + 1]]
                for i, a in taps.items()
                for j, b in taps.items()
            )
    torch.testing.assert_close(Blur()(x)[0, 0], expected)


def test_discriminator_that_sees_alpha_is_shown_opaque_images() -> None:
    torch.manual_seed(0)
    transparent = LucidrainsDiscriminatorArchitecture((3, 4, 5, 5), (1,), has_alpha=True)
    discriminator = LucidrainsDiscriminator(transparent).requires_grad_(False)
    image = draw(2, 3, 16, 16)
    with captured(discriminator, [*discriminator.blocks, discriminator.last]) as found:
        logits = discriminator(image)
    assert logits.shape == (2, 1)
    assert [x.shape[2] for x in found.values()] == [8, 4, 2, 2, 2]
    shown = torch.cat([(image + 1) / 2, torch.ones(2, 1, 16, 16)], 1)
    torch.testing.assert_close(discriminator.D(shown), logits)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"widths": ()}, "widths: must be from 1 to 11"),
        ({"widths": (4, 0)}, r"widths\[1\]"),
        ({"attention": (3,)}, "attention: must be positions of blocks in order"),
        ({"mapping_lr_mult": 0.0}, "mapping_lr_mult"),
        ({"mapping_lr_mult": math.nan}, "mapping_lr_mult"),
    ],
)
def test_architecture_out_of_range_is_refused(changes: dict[str, object], message: str) -> None:
    sizes: dict[str, object] = {"z_dim": 6, "num_mapping_layers": 2, "widths": (4, 4, 4)}
    with pytest.raises(ValueError, match=message):
        LucidrainsArchitecture(**(sizes | changes))  # type: ignore[arg-type]

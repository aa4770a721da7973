"""StyleGAN3's network: what holds for any batch and precision, and what it refuses."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.speed.reference_stylegan3 import Geometry
from benchmarks.speed.render_stylegan3 import build_random_generator, describe
from pipeline.teacher.architectures.stylegan3 import StyleGAN3Architecture
from pipeline.teacher.features import captured
from pipeline.teacher.networks import filtered
from pipeline.teacher.networks.stylegan3 import StyleGAN3Generator
from tests.support.tiny_teachers import stylegan3

RADIAL = Geometry(
    resolution=32, channel_base=99, channel_max=6, num_layers=5, kernel=1, is_radial=True
)


def latents(num: int, width: int = 6) -> Tensor:
    return torch.randn(num, width, generator=torch.Generator().manual_seed(1))


def test_generator_sample_does_not_depend_on_its_neighbours() -> None:
    generator = stylegan3()
    z = latents(5)
    z[3] *= 1e-3
    whole = generator(z).image
    parts = [generator(z[i : i + 2]).image for i in range(0, 5, 2)]
    # sums in another order; a division of styles by the batch's mean square would be no more
    torch.testing.assert_close(torch.cat(parts), whole, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("geometry", [RADIAL, replace(RADIAL, kernel=3, is_radial=False)])
@pytest.mark.parametrize("largest", [5, 13, 200])
def test_generator_tiles_of_any_size_give_the_same_maps(
    geometry: Geometry, largest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = build_random_generator(geometry, z_dim=6, w_dim=8)
    z = latents(2)
    with captured(generator, generator.blocks) as wanted:
        generator(z)
    monkeypatch.setitem(filtered._MAX_TILE, "cpu", largest)
    with captured(generator, generator.blocks) as found:
        generator(z)
    for name, feature in wanted.items():
        torch.testing.assert_close(found[name], feature, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_set_precision_half_runs_the_layers_made_for_it(dtype: torch.dtype) -> None:
    generator = stylegan3()
    z, names = latents(3), generator.blocks
    exact = generator(z).image
    generator.set_precision(dtype)
    with captured(generator, names) as found:
        image = generator(z).image
    kinds = [found[name].dtype for name in names]
    assert kinds == [torch.float32, *[dtype] * (len(names) - 2), torch.float32]
    # some dozen roundings in each of five layers
    tolerance = 16 * torch.finfo(dtype).eps
    assert 0 < (image - exact).abs().max() <= tolerance * exact.abs().max()
    generator.set_precision(torch.float32)
    assert torch.equal(generator(z).image, exact)


def test_set_precision_half_of_large_weights_does_not_overflow() -> None:
    """Of any scale: demodulation undoes it, but only after the convolution."""
    generator = stylegan3()
    layer = generator.synthesis.layers[1]
    exact = generator(latents(2)).image
    layer.weight.mul_(1e4)
    layer.affine.weight.mul_(1e4)
    layer.affine.bias.mul_(1e4)
    generator.set_precision(torch.float16)
    image = generator(latents(2)).image
    assert (image - exact).abs().max() <= 0.02 * exact.abs().max()


def test_half_layers_where_nothing_says_are_those_of_the_highest_rates() -> None:
    """More than a sixteenth of the image's."""
    arch = describe(Geometry(resolution=128, channel_base=256, channel_max=8, num_layers=8), 6, 8)
    arch = replace(arch, layers=tuple(replace(layer, is_half=False) for layer in arch.layers))
    rates = [16, 16, 32, 64, 64, 128, 128, 128, 128]
    margin = 20
    assert [layer.size - margin for layer in arch.layers[:-2]] == rates[:-2]
    assert arch.half_layers == tuple(rate > 8 for rate in rates)


def test_generator_of_classes_truncates_to_the_mean_of_each() -> None:
    arch = replace(describe(RADIAL, 6, 8), num_classes=3, class_width=4)
    generator = StyleGAN3Generator(arch).eval().requires_grad_(False)
    means = torch.arange(24.0).view(3, 8)
    generator.mapping.w_avg.copy_(means)
    labels = torch.eye(3)[[2, 0]]
    ws = generator(latents(2), labels=labels, truncation_psi=0.0, truncation_cutoff=2).ws
    torch.testing.assert_close(ws[:, :2], means[[2, 0], None].expand(-1, 2, -1))
    assert torch.equal(ws[:, 2:], generator(latents(2), labels=labels).ws[:, 2:])
    for wrong in (None, torch.eye(4)[:2]):
        with pytest.raises(ValueError, match=r"labels: expected \[B, 3\]"):
            generator(latents(2), labels=wrong)


def test_generator_gradients_reach_the_latents() -> None:
    generator = stylegan3()
    z = latents(2).requires_grad_()
    (gradient,) = torch.autograd.grad(generator(z).image.square().sum(), z)
    step = torch.zeros_like(z)
    step[0, 0] = 1e-2
    values = [generator(z.detach() + sign * step).image.square().sum() for sign in (1, -1)]
    wanted = (values[0] - values[1]) / 2e-2
    torch.testing.assert_close(gradient[0, 0], wanted, rtol=0.02, atol=1e-3)


@pytest.mark.parametrize(
    ("index", "changes", "message"),
    [
        (1, {"size": 60}, r"layers\[1\]: makes maps of 36 px, described as 60"),
        (1, {"up": 0}, r"layers\[1\]\.up: factor 0"),
        (1, {"down_taps": 100_000}, r"layers\[1\]\.down: factor"),
        (1, {"padding": (10**9, 8)}, r"layers\[1\]\.padding"),
        (1, {"kernel": 0}, r"layers\[1\]\.kernel"),
        (1, {"conv_clamp": -1.0}, r"layers\[1\]\.conv_clamp"),
        (1, {"num_channels": 1 << 20}, r"layers\[1\]\.num_channels"),
        (-1, {"up": 2, "up_taps": 12, "padding": (-10, -11)}, "layer of the image"),
    ],
)
def test_architecture_of_impossible_layers_is_refused(
    index: int, changes: dict[str, Any], message: str
) -> None:
    arch = describe(RADIAL, 6, 8)
    layers = list(arch.layers)
    layers[index] = replace(layers[index], **changes)
    with pytest.raises(ValueError, match=message):
        replace(arch, layers=tuple(layers))


@pytest.mark.parametrize(
    "changes",
    [{"class_width": 3}, {"num_mapping_layers": 65}, {"output_scale": 0.0}, {"w_dim": 0}],
)
def test_architecture_of_impossible_sizes_is_refused(changes: dict[str, Any]) -> None:
    arch: StyleGAN3Architecture = describe(RADIAL, 6, 8)
    with pytest.raises(ValueError, match=next(iter(changes))):
        replace(arch, **changes)

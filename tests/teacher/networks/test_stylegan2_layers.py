"""Layers of the networks against references as the StyleGAN2 papers state them, in float64."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.teacher.architectures.stylegan2 import StyleGAN2Architecture
from pipeline.teacher.networks.discriminator import minibatch_std
from pipeline.teacher.networks.fir import conv_down, conv_up, resample_filter, upsample_image
from pipeline.teacher.networks.stylegan2 import SynthesisLayer, ToRGB


def fir_depthwise(x: Tensor, fir: Tensor, stride: int = 1) -> Tensor:
    channels = x.shape[1]
    weight = fir.flip(0, 1).expand(channels, 1, *fir.shape)
    return F.conv2d(x, weight, stride=stride, groups=channels)


def reference_conv_up(x: Tensor, weight: Tensor, fir: Tensor) -> Tensor:
    x = F.conv_transpose2d(x, weight.transpose(0, 1), stride=2)
    return fir_depthwise(F.pad(x, [1, 1, 1, 1]), 4 * fir)


def reference_conv_down(x: Tensor, weight: Tensor, fir: Tensor) -> Tensor:
    return F.conv2d(fir_depthwise(F.pad(x, [2, 2, 2, 2]), fir), weight, stride=2)


def reference_upsample_image(image: Tensor, fir: Tensor) -> Tensor:
    batch, channels, side, _ = image.shape
    sparse = image.new_zeros(batch, channels, side, 2, side, 2)
    sparse[:, :, :, 0, :, 0] = image
    sparse = sparse.reshape(batch, channels, 2 * side, 2 * side)
    return fir_depthwise(F.pad(sparse, [2, 1, 2, 1]), 4 * fir)


def draw(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


FIR = resample_filter().double()
Resample = Callable[[Tensor, Tensor, Tensor], Tensor]


def test_resample_filter_is_the_binomial_low_pass() -> None:
    taps = [1.0, 3.0, 3.0, 1.0]
    expected_filter = torch.tensor([[a * b / 64 for b in taps] for a in taps])
    torch.testing.assert_close(resample_filter(), expected_filter)


@pytest.mark.parametrize("side", [2, 4, 6])
@pytest.mark.parametrize(
    ("function", "reference"),
    [(conv_up, reference_conv_up), (conv_down, reference_conv_down)],
    ids=["up", "down"],
)
def test_resampling_convolution_value_and_gradients_equal_the_two_step_reference(
    function: Resample, reference: Resample, side: int
) -> None:
    x, weight = draw(2, 3, side, side).requires_grad_(), draw(5, 3, 3, 3, seed=1).requires_grad_()
    found, wanted = function(x, weight, FIR), reference(x, weight, FIR)
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-12)
    direction = draw(*wanted.shape, seed=2)
    gradients = torch.autograd.grad(found, (x, weight), direction)
    wanted_gradients = torch.autograd.grad(wanted, (x, weight), direction)
    torch.testing.assert_close(gradients, wanted_gradients, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("function", "reference"),
    [(conv_up, reference_conv_up), (conv_down, reference_conv_down)],
    ids=["up", "down"],
)
def test_resampling_convolution_second_derivatives_equal_the_reference(
    function: Resample, reference: Resample
) -> None:
    def penalty_gradients(resample: Resample) -> tuple[Tensor, ...]:
        """Gradients of an R1-like penalty: of the squared gradient of a non-linear output."""
        x, weight = draw(2, 3, 4, 4).requires_grad_(), draw(5, 3, 3, 3, seed=1).requires_grad_()
        score = F.softplus(resample(x, weight, FIR)).sum()
        (gradient,) = torch.autograd.grad(score, x, create_graph=True)
        return torch.autograd.grad(gradient.square().sum(), (x, weight))

    found, wanted = penalty_gradients(function), penalty_gradients(reference)
    assert all(gradient.abs().max() > 1e-3 for gradient in wanted)
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-11)


def test_conv_down_gradient_and_gradgrad_pass_the_finite_difference_check() -> None:
    x, weight = draw(1, 2, 4, 4).requires_grad_(), draw(2, 2, 3, 3, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: conv_down(a, b, FIR), (x, weight))
    assert torch.autograd.gradgradcheck(lambda a, b: conv_down(a, b, FIR), (x, weight))


def test_upsample_image_value_and_gradient_equal_zero_insertion_and_filter() -> None:
    image = draw(2, 3, 5, 5).requires_grad_()
    found, wanted = upsample_image(image, FIR), reference_upsample_image(image, FIR)
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-12)
    direction = draw(*wanted.shape, seed=2)
    torch.testing.assert_close(
        torch.autograd.grad(found, image, direction), torch.autograd.grad(wanted, image, direction)
    )


def test_upsample_image_constant_stays_constant_inside() -> None:
    image = torch.full((1, 1, 6, 6), 0.7)
    inside = upsample_image(image, resample_filter())[..., 2:-2, 2:-2]
    torch.testing.assert_close(inside, torch.full_like(inside, 0.7))


def randomise(module: torch.nn.Module, seed: int = 0) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        values = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        parameter.data = parameter.data.double() + 0.5 * values
    for name, buffer in module.named_buffers():
        module.get_buffer(name).data = buffer.double()


def reference_style(layer: SynthesisLayer | ToRGB, w: Tensor) -> Tensor:
    return w @ layer.affine.weight.T / w.shape[1] ** 0.5 + layer.affine.bias


@pytest.mark.parametrize("up", [False, True])
@pytest.mark.parametrize("clamp", [None, 1.5])
def test_synthesis_layer_equals_per_sample_modulated_weights(up: bool, clamp: float | None) -> None:
    arch = StyleGAN2Architecture(8, 6, 6, 2, 64, 8, conv_clamp=clamp)
    layer = SynthesisLayer(3, 4, 8 if up else 4, arch, up=up)
    randomise(layer)
    x, w = draw(5, 3, 4, 4), draw(5, 6, seed=1)
    noise = draw(5, 1, 8 if up else 4, 8 if up else 4, seed=2)
    styles = reference_style(layer, w)
    outputs = []
    for sample, style, map_ in zip(x, styles, noise, strict=True):
        weight = layer.weight * style[None, :, None, None]
        weight = weight / (weight.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()
        convolved = (
            reference_conv_up(sample[None], weight, FIR)
            if up
            else F.conv2d(sample[None], weight, padding=1)
        )[0]
        y = convolved + map_ * layer.noise_strength + layer.bias[:, None, None]
        y = torch.where(y > 0, y, 0.2 * y) * 2**0.5
        outputs.append(y if clamp is None else y.clamp(-clamp, clamp))
    found = layer(x, w, noise)
    # the 1e-8 stands beside the sum before or after the style is applied; otherwise float64
    torch.testing.assert_close(found, torch.stack(outputs), rtol=1e-6, atol=1e-7)


def test_synthesis_layer_noise_modes_add_the_stored_map_or_nothing() -> None:
    layer = SynthesisLayer(3, 4, 4, StyleGAN2Architecture(8, 6, 6, 2, 64, 8), up=False)
    randomise(layer)
    x, w = draw(2, 3, 4, 4), draw(2, 6, seed=1)
    stored = layer.noise_const.expand(2, 1, 4, 4)
    torch.testing.assert_close(layer(x, w, "const"), layer(x, w, stored))
    torch.testing.assert_close(layer(x, w, "none"), layer(x, w, torch.zeros_like(stored)))


def test_to_rgb_equals_per_sample_modulated_weights_without_demodulation() -> None:
    layer = ToRGB(4, StyleGAN2Architecture(8, 6, 6, 2, 64, 8))
    randomise(layer)
    x, w = draw(3, 4, 4, 4), draw(3, 6, seed=1)
    styles = reference_style(layer, w) / 4**0.5
    expected_images = torch.stack(
        [
            F.conv2d(sample[None], layer.weight * style[None, :, None, None], layer.bias)[0]
            for sample, style in zip(x, styles, strict=True)
        ]
    )
    torch.testing.assert_close(layer(x, w), expected_images, rtol=1e-10, atol=1e-12)


def reference_minibatch_std(x: Tensor, group: int) -> Tensor:
    batch, channels, height, width = x.shape
    num_groups = batch // group
    result = torch.zeros(batch, 1, height, width, dtype=x.dtype)
    for first in range(num_groups):
        members = range(first, batch, num_groups)
        total = 0.0
        for c in range(channels):
            for i in range(height):
                for j in range(width):
                    values = [x[n, c, i, j].item() for n in members]
                    mean = sum(values) / group
                    total += (sum((v - mean) ** 2 for v in values) / group + 1e-8) ** 0.5
        for n in members:
            result[n] = total / (channels * height * width)
    return torch.cat([x, result], 1)


@pytest.mark.parametrize(("batch", "size", "group"), [(8, 4, 4), (8, 32, 8), (4, 1, 1), (6, 2, 2)])
def test_minibatch_std_equals_loops_over_the_groups(batch: int, size: int, group: int) -> None:
    x = draw(batch, 2, 3, 3)
    wanted = reference_minibatch_std(x, group)
    torch.testing.assert_close(minibatch_std(x, size), wanted, rtol=1e-9, atol=1e-10)

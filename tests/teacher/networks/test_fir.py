"""The FIR's derivatives of any order against torch's own, and how many convolutions they take."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from pipeline.teacher.architectures.stylegan2 import (
    StyleGAN2Architecture,
    StyleGAN2DiscriminatorArchitecture,
)
from pipeline.teacher.networks import discriminator, layers, stylegan2
from pipeline.teacher.networks.discriminator import Discriminator
from pipeline.teacher.networks.fir import (
    conv_down,
    conv_up,
    downsample_image,
    resample_filter,
    upsample_image,
)
from pipeline.teacher.networks.stylegan2 import Generator
from pipeline.teacher.training.penalties import path_lengths, r1_penalty


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


# The same by torch's differentiation of depthwise convolutions.


def depthwise(x: Tensor, fir: Tensor, **settings: int) -> Tensor:
    channels = x.shape[1]
    weight = fir.flip(0, 1).expand(channels, 1, 4, 4)
    return F.conv2d(x, weight, groups=channels, **settings)


def plain_conv_up(x: Tensor, weight: Tensor, fir: Tensor) -> Tensor:
    return depthwise(F.conv_transpose2d(x, weight.transpose(0, 1), stride=2), 4 * fir, padding=1)


def plain_conv_down(x: Tensor, weight: Tensor, fir: Tensor, bias: Tensor | None = None) -> Tensor:
    return F.conv2d(depthwise(x, fir, padding=2), weight, bias, stride=2)


def plain_upsample_image(image: Tensor, fir: Tensor) -> Tensor:
    channels = image.shape[1]
    weight = (4 * fir.flip(0, 1)).expand(channels, 1, 4, 4)
    return F.conv_transpose2d(image, weight, stride=2, padding=1, groups=channels)


def plain_downsample_image(image: Tensor, fir: Tensor) -> Tensor:
    return depthwise(image, fir, stride=2, padding=1)


Pair = tuple[Callable[..., Tensor], Callable[..., Tensor], bool]
PAIRS = [
    pytest.param((conv_up, plain_conv_up, True), id="conv_up"),
    pytest.param((conv_down, plain_conv_down, True), id="conv_down"),
    pytest.param((upsample_image, plain_upsample_image, False), id="upsample_image"),
    pytest.param((downsample_image, plain_downsample_image, False), id="downsample_image"),
]
LOPSIDED = draw(4, 4, seed=9)  # a FIR whose flips differ


def arguments(has_weight: bool, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    x, weight = draw(2, 3, 6, 6, dtype=dtype), draw(5, 3, 3, 3, seed=1, dtype=dtype)
    return [x.requires_grad_(), weight.requires_grad_()][: 2 if has_weight else 1]


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("pair", PAIRS)
def test_resampling_values_are_the_plain_forms_to_the_last_bit(
    pair: Pair, dtype: torch.dtype, memory_format: torch.memory_format
) -> None:
    function, plain, has_weight = pair
    x, *weight = arguments(has_weight, dtype)
    x = x.detach().to(memory_format=memory_format)
    fir = resample_filter().to(dtype)
    found, expected = function(x, *weight, fir), plain(x, *weight, fir)
    assert torch.equal(found, expected)
    assert found.stride() == expected.stride()


@pytest.mark.parametrize("fir", [resample_filter().double(), LOPSIDED], ids=["usual", "lopsided"])
@pytest.mark.parametrize("pair", PAIRS)
def test_resampling_derivatives_of_three_orders_equal_the_plain_forms(
    pair: Pair, fir: Tensor
) -> None:
    def derivatives(resample: Callable[..., Tensor]) -> list[Tensor]:
        inputs, found = arguments(has_weight), []
        score = F.softplus(resample(*inputs, fir)).sum()
        for _ in range(3):
            gradients = torch.autograd.grad(score, inputs, create_graph=True)
            found += gradients
            score = sum(gradient.square().sum() for gradient in gradients)  # type: ignore[assignment]
        return found

    function, plain, has_weight = pair
    assert_near(derivatives(function), derivatives(plain), 1e-9)


@pytest.mark.parametrize("pair", PAIRS)
def test_resampling_passes_both_finite_difference_checks(pair: Pair) -> None:
    function, _, has_weight = pair
    x, weight = draw(1, 2, 4, 4).requires_grad_(), draw(2, 2, 3, 3, seed=1).requires_grad_()
    inputs = (x, weight) if has_weight else (x,)
    assert torch.autograd.gradcheck(lambda *a: function(*a, LOPSIDED), inputs)
    assert torch.autograd.gradgradcheck(lambda *a: function(*a, LOPSIDED), inputs)


@pytest.mark.parametrize("pair", PAIRS)
def test_resampling_under_autocast_gives_the_plain_forms_gradients(pair: Pair) -> None:
    def gradients(resample: Callable[..., Tensor]) -> tuple[Tensor, ...]:
        inputs = arguments(has_weight, torch.float32)
        with torch.autocast("cpu", torch.bfloat16):
            found = resample(*inputs, resample_filter())
        assert found.dtype == torch.bfloat16
        return torch.autograd.grad(found.float().square().sum(), inputs)

    function, plain, has_weight = pair
    found = gradients(function)
    assert {gradient.dtype for gradient in found} == {torch.float32}
    # 8 bits of mantissa, and the kernel's values are rounded at other places
    torch.testing.assert_close(found, gradients(plain), rtol=0.02, atol=0.2)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of what torch.compile imports
@pytest.mark.parametrize("pair", PAIRS)
def test_resampling_is_captured_whole_with_its_gradient(pair: Pair) -> None:
    function, _, has_weight = pair
    inputs, fir = arguments(has_weight, torch.float32), resample_filter()
    captured = torch.compile(function, backend="aot_eager", fullgraph=True, dynamic=False)
    found, expected = (f(*inputs, fir) for f in (captured, function))
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    torch.testing.assert_close(
        torch.autograd.grad(found.square().sum(), inputs),
        torch.autograd.grad(expected.square().sum(), inputs),
    )


def r1_gradients(**changes: Any) -> tuple[Tensor, ...]:
    network = filled(Discriminator(StyleGAN2DiscriminatorArchitecture(16, 64, 8, **changes)))
    images = draw(4, 3, 16, 16).requires_grad_()
    return torch.autograd.grad(r1_penalty(network(images), images), list(parameters(network)))


def path_length_gradients() -> tuple[Tensor, ...]:
    network = filled(Generator(StyleGAN2Architecture(16, 8, 8, 2, 64, 8)))
    ws = network.mapping(draw(4, 8))
    image = network.synthesis(ws, "none")
    lengths = path_lengths(image, ws, draw(4, 3, 16, 16, seed=1))
    return torch.autograd.grad(lengths.square().mean(), list(parameters(network.synthesis)))


def parameters(network: nn.Module) -> list[nn.Parameter]:
    """Those that a penalty depends on."""
    unused = ("noise_strength", "b4.out.bias", "torgb.bias")
    return [p for name, p in network.named_parameters() if not name.endswith(unused)]


def filled(network: nn.Module) -> Any:
    for index, parameter in enumerate(network.double().parameters()):
        parameter.data = draw(*parameter.shape, seed=index) + (parameter.dim() == 1)
    return network


@pytest.mark.parametrize("skips", ["orig", "skip", "resnet"])
def test_r1_penalty_of_a_discriminator_has_the_plain_forms_gradients(
    skips: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = r1_gradients(skips=skips)
    monkeypatch.setattr(layers, "conv_down", plain_conv_down)
    for module in (layers, discriminator):
        monkeypatch.setattr(module, "downsample_image", plain_downsample_image)
    assert_near(found, r1_gradients(skips=skips))


def test_path_lengths_of_a_generator_have_the_plain_forms_gradients(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = path_length_gradients()
    monkeypatch.setattr(stylegan2, "conv_up", plain_conv_up)
    monkeypatch.setattr(stylegan2, "upsample_image", plain_upsample_image)
    assert_near(found, path_length_gradients())


def assert_near(found: Sequence[Tensor], expected: Sequence[Tensor], share: float = 1e-6) -> None:
    for gradient, wanted in zip(found, expected, strict=True):
        assert (gradient - wanted).norm() <= share * wanted.norm()
    assert (
        sum(wanted.norm() > 0 for wanted in expected) >= len(expected) / 2
    )  # a bias moves no slope


class Convolutions(TorchDispatchMode):
    """Counts the convolutions, forward and backward, that torch hands to the device."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += "convolution" in func.overloadpacket._qualified_op_name
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("width", [32, 128, 256])
def test_r1_penalty_takes_the_same_few_convolutions_at_any_width(width: int) -> None:
    with torch.device("meta"):
        network = Discriminator(StyleGAN2DiscriminatorArchitecture(32, 32 * width, width))
        images = torch.randn(4, 3, 32, 32, requires_grad=True)
    with Convolutions() as forward:
        penalty = r1_penalty(network(images), images)
    with Convolutions() as second_derivative:
        penalty.backward()
    assert forward.count == 22  # 8 convolutions and 3 FIRs, there and back
    assert second_derivative.count <= 40


@pytest.mark.parametrize("width", [32, 256])
def test_path_lengths_take_the_same_few_convolutions_at_any_width(width: int) -> None:
    with torch.device("meta"):
        network = Generator(StyleGAN2Architecture(32, 8, 8, 2, 32 * width, width))
        ws = network.mapping(torch.randn(4, 8))
        noise = torch.randn(4, 3, 32, 32)
    lengths = path_lengths(network.synthesis(ws, "none"), ws, noise)
    with Convolutions() as second_derivative:
        lengths.square().mean().backward()
    assert second_derivative.count <= 45

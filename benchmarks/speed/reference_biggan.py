"""BigGAN and BigGAN-deep in plain torch, from tensors named as in the checkpoints of their authors'
code, and random tensors of any size in those layouts.

Written from Brock et al. 2019 and what such checkpoints hold: spectral norms by a step of the power
method, maps doubled before they are convolved, every equation by itself. Rival of
`teacher/networks/biggan.py` in `render_biggan.py`, and what tests compare with.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

State = dict[str, Tensor]


@dataclass(frozen=True)
class Sizes:
    """A BigGAN of BigGAN-PyTorch."""

    widths: tuple[int, ...]
    """Channels of the 4-px map, and after each block."""
    judge_widths: tuple[int, ...]
    """Channels after each block of the discriminator."""
    attention: tuple[int, ...] = ()
    judge_attention: tuple[int, ...] = ()
    z_dim: int = 12
    num_classes: int = 5
    shared_dim: int = 0
    is_hierarchical: bool = False
    num_halvings: int = 2


def random_generator(sizes: Sizes, seed: int = 0) -> State:
    """Tensors of a generator, every one of which acts."""
    draw = _Draw(seed)
    blocks = len(sizes.widths) - 1
    part = sizes.z_dim // (blocks + 1 if sizes.is_hierarchical else 1)
    condition = sizes.shared_dim + (part if sizes.is_hierarchical else 0)
    if sizes.shared_dim:
        draw.state["shared.weight"] = draw.normal(sizes.num_classes, sizes.shared_dim)
    draw.layer("linear", sizes.widths[0] * 16, part)
    for index, (width, out_width) in enumerate(zip(sizes.widths, sizes.widths[1:], strict=False)):
        name = f"blocks.{index}.0"
        draw.layer(f"{name}.conv1", out_width, width, 3, 3)
        draw.layer(f"{name}.conv2", out_width, out_width, 3, 3)
        draw.layer(f"{name}.conv_sc", out_width, width, 1, 1)
        for norm, channels in ((f"{name}.bn1", width), (f"{name}.bn2", out_width)):
            draw.statistics(norm, channels)
            for kind in ("gain", "bias"):
                if sizes.shared_dim:
                    draw.layer(f"{norm}.{kind}", channels, condition, has_bias=False)
                else:
                    weight = draw.normal(sizes.num_classes, channels)
                    draw.state[f"{norm}.{kind}.weight"] = 0.3 * weight
        if index in sizes.attention:
            draw.attention(f"blocks.{index}.1", out_width)
    last = sizes.widths[-1]
    draw.statistics("output_layer.0", last)
    draw.state["output_layer.0.gain"] = 1 + 0.3 * draw.normal(last)
    draw.state["output_layer.0.bias"] = 0.3 * draw.normal(last)
    draw.layer("output_layer.2", 3, last, 3, 3)
    return draw.state


def random_discriminator(sizes: Sizes, seed: int = 1) -> State:
    """Tensors of a discriminator."""
    draw = _Draw(seed)
    for index, (width, out_width) in enumerate(
        zip((3, *sizes.judge_widths), sizes.judge_widths, strict=False)
    ):
        name = f"blocks.{index}.0"
        draw.layer(f"{name}.conv1", out_width, width, 3, 3)
        draw.layer(f"{name}.conv2", out_width, out_width, 3, 3)
        if index < sizes.num_halvings or width != out_width:
            draw.layer(f"{name}.conv_sc", out_width, width, 1, 1)
        if index in sizes.judge_attention:
            draw.attention(f"blocks.{index}.1", out_width)
    draw.layer("linear", 1, sizes.judge_widths[-1])
    draw.layer("embed", sizes.num_classes, sizes.judge_widths[-1], has_bias=False)
    return draw.state


def divide_by_norms(state: State, eps: float) -> State:
    """Weights as the network computes with them, divided by their spectral norms."""
    found = {}
    for name, tensor in state.items():
        vector = state.get(f"{name.removesuffix('.weight')}.u0")
        if name.endswith(".weight") and vector is not None:
            matrix = tensor.flatten(1)
            right = F.normalize(vector @ matrix, eps=eps)
            left = F.normalize(right @ matrix.T, eps=eps)
            tensor = tensor / (right @ matrix.T @ left.T).squeeze()
        found[name] = tensor
    return found


def render_reference(
    state: State, z: Tensor, classes: Tensor, eps: float = 1e-5
) -> tuple[Tensor, dict[str, Tensor]]:
    """Images and outputs of blocks and attention layers, of latents [B, z_dim] and classes int64
    [B]; `state` is divided by spectral norms.
    """
    blocks = list(_blocks(state))
    part = state["linear.weight"].shape[1]
    y, rest = classes, [None] * len(blocks)
    if "shared.weight" in state:
        y = state["shared.weight"][classes]
    if z.shape[1] > part:
        z, *rest = z.split(part, 1)
    width = state["blocks.0.0.conv1.weight"].shape[1]
    x = F.linear(z, state["linear.weight"], state["linear.bias"]).view(len(z), width, 4, 4)
    features = {}
    for name, extra in zip(blocks, rest, strict=True):
        condition = y if extra is None else torch.cat([y, extra], 1)
        h = F.relu(_conditional_norm(state, f"{name}.0.bn1", x, condition, eps))
        h = _conv(state, f"{name}.0.conv1", F.interpolate(h, scale_factor=2))
        h = F.relu(_conditional_norm(state, f"{name}.0.bn2", h, condition, eps))
        h = _conv(state, f"{name}.0.conv2", h)
        x = h + _conv(state, f"{name}.0.conv_sc", F.interpolate(x, scale_factor=2))
        features[f"{name}.0"] = x
        if f"{name}.1.gamma" in state:
            x = features[f"{name}.1"] = _attention(state, f"{name}.1", x)
    x = _normalise(x, *_statistics(state, "output_layer.0"), 1e-5)
    x = x * state["output_layer.0.gain"].view(-1, 1, 1) + state["output_layer.0.bias"].view(
        -1, 1, 1
    )
    return _conv(state, "output_layer.2", F.relu(x)).tanh(), features


def judge_reference(
    state: State, image: Tensor, classes: Tensor, num_halvings: int
) -> tuple[Tensor, dict[str, Tensor]]:
    """Logits [B, 1] and outputs of blocks and attention layers."""
    x, features = image, {}
    for index, name in enumerate(_blocks(state)):
        h = _conv(state, f"{name}.0.conv1", F.relu(x) if index else x)
        h = _conv(state, f"{name}.0.conv2", F.relu(h))
        if f"{name}.0.conv_sc.weight" in state:
            x = _conv(state, f"{name}.0.conv_sc", x)
        if index < num_halvings:
            h, x = F.avg_pool2d(h, 2), F.avg_pool2d(x, 2)
        x = features[f"{name}.0"] = h + x
        if f"{name}.1.gamma" in state:
            x = features[f"{name}.1"] = _attention(state, f"{name}.1", x)
    h = F.relu(x).sum((2, 3))
    logits = F.linear(h, state["linear.weight"], state["linear.bias"])
    return logits + (state["embed.weight"][classes] * h).sum(1, keepdim=True), features


class _Draw:
    """Random tensors that keep maps near unit variance."""

    def __init__(self, seed: int) -> None:
        self._generator = torch.Generator().manual_seed(seed)
        self.state: State = {}

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self._generator)

    def layer(self, name: str, *shape: int, has_bias: bool = True) -> None:
        """With the vector and the log of its spectral normalisation."""
        self.state[f"{name}.weight"] = self.normal(*shape) / math.sqrt(math.prod(shape[1:]))
        if has_bias:
            self.state[f"{name}.bias"] = 0.3 * self.normal(shape[0])
        self.state[f"{name}.u0"] = self.normal(1, shape[0])
        self.state[f"{name}.sv0"] = self.normal(1)

    def statistics(self, name: str, num_channels: int) -> None:
        self.state[f"{name}.stored_mean"] = 0.3 * self.normal(num_channels)
        self.state[f"{name}.stored_var"] = 0.5 + self.normal(num_channels).square()

    def attention(self, name: str, num_channels: int) -> None:
        self.state[f"{name}.gamma"] = torch.tensor(0.7)
        narrow, half = num_channels // 8, num_channels // 2
        for part, out, width in (
            ("theta", narrow, num_channels),
            ("phi", narrow, num_channels),
            ("g", half, num_channels),
            ("o", num_channels, half),
        ):
            self.layer(f"{name}.{part}", out, width, 1, 1, has_bias=False)


def _blocks(state: State) -> Iterator[str]:
    index = 0
    while f"blocks.{index}.0.conv1.weight" in state:
        yield f"blocks.{index}"
        index += 1


def _conv(state: State, name: str, x: Tensor) -> Tensor:
    weight = state[f"{name}.weight"]
    return F.conv2d(x, weight, state.get(f"{name}.bias"), padding=weight.shape[-1] // 2)


def _statistics(state: State, name: str) -> tuple[Tensor, Tensor]:
    return state[f"{name}.stored_mean"], state[f"{name}.stored_var"]


def _normalise(x: Tensor, mean: Tensor, var: Tensor, eps: float) -> Tensor:
    return (x - mean.view(-1, 1, 1)) / (var.view(-1, 1, 1) + eps).sqrt()


def _conditional_norm(state: State, name: str, x: Tensor, condition: Tensor, eps: float) -> Tensor:
    gain, bias = (state[f"{name}.{kind}.weight"] for kind in ("gain", "bias"))
    if condition.is_floating_point():
        scale, shift = condition @ gain.T, condition @ bias.T
    else:
        scale, shift = gain[condition], bias[condition]
    x = _normalise(x, *_statistics(state, name), eps)
    return x * (1 + scale[:, :, None, None]) + shift[:, :, None, None]


def _attention(state: State, name: str, x: Tensor) -> Tensor:
    theta = _conv(state, f"{name}.theta", x).flatten(2)
    phi = F.max_pool2d(_conv(state, f"{name}.phi", x), 2).flatten(2)
    g = F.max_pool2d(_conv(state, f"{name}.g", x), 2).flatten(2)
    beta = torch.bmm(theta.transpose(1, 2), phi).softmax(-1)
    seen = torch.bmm(g, beta.transpose(1, 2)).view(len(x), -1, *x.shape[2:])
    return x + state[f"{name}.gamma"] * _conv(state, f"{name}.o", seen)

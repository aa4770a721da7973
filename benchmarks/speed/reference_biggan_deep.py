"""BigGAN-deep in plain torch, from tensors named as in pytorch-pretrained-BigGAN's files, and
random tensors of any size in that layout.

Written from Brock et al. 2019 and what such files hold. What tests of `teacher/networks/
biggan_deep.py` compare with. Neighbour: `reference_biggan.py`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

State = dict[str, Tensor]
_NUM_STEPS = 4
"""Of the power method: as in a trained network, a weight's norm is about what it is divided by."""


@dataclass(frozen=True)
class DeepSizes:
    """A BigGAN-deep as its `config.json` describes it."""

    layers: tuple[tuple[bool, int, int], ...]
    """Doubles the side, channels in and out, in multiples of `channel_width`."""
    attention_at: int
    channel_width: int = 4
    z_dim: int = 6
    num_classes: int = 5
    num_statistics: int = 11
    eps: float = 1e-4

    @property
    def config(self) -> dict[str, object]:
        """`config.json`."""
        return {
            "output_dim": 4 * 2 ** sum(doubles for doubles, _, _ in self.layers),
            "z_dim": self.z_dim,
            "class_embed_dim": self.z_dim,
            "channel_width": self.channel_width,
            "num_classes": self.num_classes,
            "layers": [list(layer) for layer in self.layers],
            "attention_layer_position": self.attention_at,
            "eps": self.eps,
            "n_stats": self.num_statistics,
        }


def random_deep_generator(sizes: DeepSizes, seed: int = 0) -> State:
    """Tensors of a generator, every one of which acts."""
    generator = torch.Generator().manual_seed(seed)
    state: State = {}
    width, condition = sizes.channel_width, 2 * sizes.z_dim

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    def layer(name: str, *shape: int, has_bias: bool = True) -> None:
        state[f"{name}.weight_orig"] = weight = normal(*shape)
        left, matrix = normal(shape[0]), weight.flatten(1)
        for _ in range(_NUM_STEPS):
            right = F.normalize(left @ matrix, dim=0)
            left = F.normalize(matrix @ right, dim=0)
        state[f"{name}.weight_u"], state[f"{name}.weight_v"] = left, right
        if has_bias:
            state[f"{name}.bias"] = 0.3 * normal(shape[0])

    def norm(name: str, channels: int, *, is_last: bool = False) -> None:
        state[f"{name}.running_means"] = 0.3 * normal(sizes.num_statistics, channels)
        state[f"{name}.running_vars"] = 0.5 + normal(sizes.num_statistics, channels).square()
        if is_last:
            state[f"{name}.weight"] = 1 + 0.3 * normal(channels)
            state[f"{name}.bias"] = 0.3 * normal(channels)
        else:
            for kind in ("scale", "offset"):
                layer(f"{name}.{kind}", channels, condition, has_bias=False)

    state["embeddings.weight"] = normal(sizes.z_dim, sizes.num_classes)
    layer("generator.gen_z", 16 * sizes.layers[0][1] * width, condition)
    position = 0
    for index, (_, in_units, out_units) in enumerate(sizes.layers):
        if index == sizes.attention_at:
            name, channels = f"generator.layers.{position}", in_units * width
            state[f"{name}.gamma"] = torch.tensor([0.7])
            layer(f"{name}.snconv1x1_theta", channels // 8, channels, 1, 1, has_bias=False)
            layer(f"{name}.snconv1x1_phi", channels // 8, channels, 1, 1, has_bias=False)
            layer(f"{name}.snconv1x1_g", channels // 2, channels, 1, 1, has_bias=False)
            layer(f"{name}.snconv1x1_o_conv", channels, channels // 2, 1, 1, has_bias=False)
            position += 1
        name, middle = f"generator.layers.{position}", in_units * width // 4
        for place, channels in enumerate((in_units * width, middle, middle, middle)):
            norm(f"{name}.bn_{place}", channels)
        layer(f"{name}.conv_0", middle, in_units * width, 1, 1)
        layer(f"{name}.conv_1", middle, middle, 3, 3)
        layer(f"{name}.conv_2", middle, middle, 3, 3)
        layer(f"{name}.conv_3", out_units * width, middle, 1, 1)
        position += 1
    last = sizes.layers[-1][2] * width
    norm("generator.bn", last, is_last=True)
    layer("generator.conv_to_rgb", last, last, 3, 3)
    return state


def divide_deep_by_norms(state: State) -> State:
    """With weights as the network computes with them, divided by their spectral norms."""
    found = dict(state)
    for name, tensor in state.items():
        if name.endswith(".weight_orig"):
            module = name.removesuffix(".weight_orig")
            left, right = (state[f"{module}.weight_{letter}"] for letter in "uv")
            found[f"{module}.weight"] = tensor / (left @ tensor.flatten(1) @ right)
    return found


def render_deep_reference(
    state: State, sizes: DeepSizes, z: Tensor, labels: Tensor, truncation: float = 1.0
) -> tuple[Tensor, dict[str, Tensor]]:
    """Images and outputs of blocks and attention layers, of latents [B, z_dim] and one-hot labels
    [B, num_classes]; `state` is divided by spectral norms.
    """

    def conv(name: str, x: Tensor) -> Tensor:
        kernel = state[f"{name}.weight"]
        return F.conv2d(x, kernel, state.get(f"{name}.bias"), padding=kernel.shape[-1] // 2)

    def norm(name: str, x: Tensor) -> Tensor:
        fraction, row = math.modf(truncation / (1.0 / (sizes.num_statistics - 1)))
        means, variances = (state[f"{name}.running_{kind}"] for kind in ("means", "vars"))
        mean, var = means[int(row)], variances[int(row)]
        if fraction:
            mean = fraction * mean + (1 - fraction) * means[int(row) + 1]
            var = fraction * var + (1 - fraction) * variances[int(row) + 1]
        x = (x - mean.view(-1, 1, 1)) / (var.view(-1, 1, 1) + sizes.eps).sqrt()
        if f"{name}.weight" in state:
            return x * state[f"{name}.weight"].view(-1, 1, 1) + state[f"{name}.bias"].view(-1, 1, 1)
        scale, offset = (q @ state[f"{name}.{kind}.weight"].T for kind in ("scale", "offset"))
        return x * (1 + scale[:, :, None, None]) + offset[:, :, None, None]

    q = torch.cat([z, labels @ state["embeddings.weight"].T], 1)
    x = F.linear(q, state["generator.gen_z.weight"], state["generator.gen_z.bias"])
    x = x.view(len(z), 4, 4, -1).permute(0, 3, 1, 2).contiguous()
    features, flags = {}, iter(sizes.layers)
    for index in range(len(sizes.layers) + (sizes.attention_at < len(sizes.layers))):
        name = f"generator.layers.{index}"
        if f"{name}.gamma" in state:
            theta = conv(f"{name}.snconv1x1_theta", x).flatten(2)
            phi = F.max_pool2d(conv(f"{name}.snconv1x1_phi", x), 2).flatten(2)
            g = F.max_pool2d(conv(f"{name}.snconv1x1_g", x), 2).flatten(2)
            beta = torch.bmm(theta.transpose(1, 2), phi).softmax(-1)
            seen = torch.bmm(g, beta.transpose(1, 2)).view(len(x), -1, *x.shape[2:])
            x = x + state[f"{name}.gamma"] * conv(f"{name}.snconv1x1_o_conv", seen)
        else:
            doubles, in_units, out_units = next(flags)
            h = conv(f"{name}.conv_0", F.relu(norm(f"{name}.bn_0", x)))
            h = F.relu(norm(f"{name}.bn_1", h))
            if doubles:
                h = F.interpolate(h, scale_factor=2)
            h = conv(f"{name}.conv_1", h)
            h = conv(f"{name}.conv_2", F.relu(norm(f"{name}.bn_2", h)))
            h = conv(f"{name}.conv_3", F.relu(norm(f"{name}.bn_3", h)))
            kept = x[:, : x.shape[1] // 2] if in_units != out_units else x
            x = h + (F.interpolate(kept, scale_factor=2) if doubles else kept)
        features[name] = x
    image = conv("generator.conv_to_rgb", F.relu(norm("generator.bn", x)))
    return image[:, :3].tanh(), features

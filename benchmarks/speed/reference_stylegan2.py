"""StyleGAN2-ADA's own formulation of our generator (`teacher/networks/stylegan2.py`), same weights.

Written from the papers (Karras et al. 2020, Eq. 1-3 and Fig. 2) in plain torch: every sample has
its own modulated and demodulated weights, applied by one grouped convolution over the batch; an
up-convolution is a transposed stride-2 convolution followed by a depthwise FIR. On GPUs the
original runs FIR and activation as CUDA kernels of its own, which this does not have.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.teacher.networks.fir import upsample_image
from pipeline.teacher.networks.layers import LEAKY_GAIN, LEAKY_SLOPE
from pipeline.teacher.networks.stylegan2 import Generator, SynthesisBlock, SynthesisLayer, ToRGB


def render_reference(
    generator: Generator, z: Tensor, noise: list[Tensor]
) -> tuple[Tensor, dict[str, Tensor]]:
    """Image and block features of `generator(z, noise)`, computed by per-sample weights.

    Args:
        generator: whose weights are used.
        z: [B, z_dim].
        noise: [B, 1, r, r] for each of `generator.synthesis.noise_resolutions`.
    """
    ws = generator.mapping(z)
    x = image = None
    features, index = {}, 0
    for resolution in generator.synthesis.block_resolutions:
        block = generator.synthesis.get_submodule(f"b{resolution}")
        assert isinstance(block, SynthesisBlock)
        if x is None or image is None:
            x = block.const.expand(len(z), -1, -1, -1)
        else:
            x = _synthesis_layer(block.conv0, x, ws[:, index], noise[index])
            image = upsample_image(image, block.resample_filter)
            index += 1
        x = _synthesis_layer(block.conv1, x, ws[:, index], noise[index])
        index += 1
        rgb = _to_rgb(block.torgb, x, ws[:, index])
        image = rgb if image is None else image + rgb
        features[f"synthesis.b{resolution}"] = x
    assert image is not None
    return image, features


def _modulated_conv(
    x: Tensor, weight: Tensor, style: Tensor, fir: Tensor | None, *, demodulate: bool
) -> Tensor:
    """x [B, I, r, r] by weights [O, I, k, k] of styles [B, I] -> [B, O, r, r], or with a `fir`
    [4, 4] [B, O, 2r, 2r]; demodulated, every output channel's weights have unit norm.
    """
    batch, in_channels, side, _ = x.shape
    weights = weight[None] * style[:, None, :, None, None]  # [B, O, I, k, k]
    if demodulate:
        weights = weights * (weights.square().sum((2, 3, 4), keepdim=True) + 1e-8).rsqrt()
    x = x.reshape(1, batch * in_channels, side, side)
    if fir is None:
        x = F.conv2d(x, weights.flatten(0, 1), padding=weight.shape[-1] // 2, groups=batch)
        return x.reshape(batch, -1, side, side)
    x = F.conv_transpose2d(x, weights.transpose(1, 2).flatten(0, 1), stride=2, groups=batch)
    x = x.reshape(batch, -1, 2 * side + 1, 2 * side + 1)
    channels = x.shape[1]
    kernel = (4 * fir.flip(0, 1)).expand(channels, 1, 4, 4)
    return F.conv2d(x, kernel, padding=1, groups=channels)


def _synthesis_layer(layer: SynthesisLayer, x: Tensor, w: Tensor, noise: Tensor) -> Tensor:
    fir = layer.resample_filter if layer.up else None
    x = _modulated_conv(x, layer.weight, layer.affine(w), fir, demodulate=True)
    x = x + noise * layer.noise_strength
    x = F.leaky_relu(x + layer.bias[:, None, None], LEAKY_SLOPE) * LEAKY_GAIN
    return x if layer.conv_clamp is None else x.clamp(-layer.conv_clamp, layer.conv_clamp)


def _to_rgb(layer: ToRGB, x: Tensor, w: Tensor) -> Tensor:
    style = layer.affine(w) * layer.style_gain
    x = _modulated_conv(x, layer.weight, style, None, demodulate=False)
    x = x + layer.bias[:, None, None]
    return x if layer.conv_clamp is None else x.clamp(-layer.conv_clamp, layer.conv_clamp)


def relative_difference(first: Tensor, second: Tensor) -> float:
    """Largest absolute difference over the largest magnitude of `second`."""
    scale = second.abs().max().clamp_min(torch.finfo(second.dtype).tiny)
    return float((first - second).abs().max() / scale)

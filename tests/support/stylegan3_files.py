"""Writes random StyleGAN3 and StyleGAN-XL checkpoints in the authors' layout, of any geometry.

The layout copies the golden files: persistent modules whose states say how a layer resamples.
Every tensor is random and acts, and `G` is not `G_ema`.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.speed.reference_stylegan3 import Geometry, LayerGeometry, State
from tests.support.official_files.modules import ModuleBuilder
from tests.support.official_files.pickling import EasyDict, Module, official_modules
from tests.support.official_files.pytorch import build_discriminator
from tests.support.official_files.specification import OfficialSpec


@dataclass(frozen=True, kw_only=True)
class StyleGAN3Spec:
    """A checkpoint to write."""

    geometry: Geometry
    z_dim: int = 10
    w_dim: int = 12
    num_mapping_layers: int = 2
    mapping_lr_mult: float = 0.01
    num_classes: int = 0
    class_width: int = 0
    """Of StyleGAN-XL; there without classes, too."""
    num_embeddings: int = 5
    """Of StyleGAN-XL: those of ImageNet, of which a data set uses the first."""
    has_unused_projection: bool = False
    """Of StyleGAN-XL without classes."""
    conv_clamp: float | None = 256
    output_scale: float = 0.25
    has_discriminator: bool = True
    layer_attributes: Mapping[str, Any] = field(default_factory=dict)
    """Of every layer, in place of those that it would have."""


def write_stylegan3(path: Path, spec: StyleGAN3Spec, **attributes: Any) -> State:
    """Writes a training snapshot, `attributes` among those of the synthesis; returns the state
    dict of `G_ema`.
    """
    averaged = _generator(spec, np.random.default_rng(0))
    averaged.modules["synthesis"].attributes |= attributes
    content: dict[str, Any] = {"G": _generator(spec, np.random.default_rng(1))}
    content |= {"D": None, "G_ema": averaged, "augment_pipe": None}
    if spec.has_discriminator:
        judge = OfficialSpec(
            resolution=spec.geometry.resolution,
            channel_base=64,
            num_classes=spec.num_classes,
            discriminator_skips="resnet",
        )
        content["D"] = build_discriminator(judge, np.random.default_rng(2))
    file = io.BytesIO()
    with official_modules():
        pickle.Pickler(file, 4).dump(content)
    path.write_bytes(file.getvalue())
    return averaged.state_dict()


def reference_ws(spec: StyleGAN3Spec, state: State, z: Tensor, classes: Tensor | None) -> Tensor:
    """w [B, w_dim] by the equations, before truncation."""

    def normalised(x: Tensor) -> Tensor:
        return x / (x.square().mean(1, keepdim=True) + 1e-8).sqrt()

    def linear(name: str, x: Tensor, lr_mult: float) -> Tensor:
        weight = state[f"mapping.{name}.weight"]
        scaled = weight * lr_mult / weight.shape[1] ** 0.5
        return F.linear(x, scaled, state[f"mapping.{name}.bias"] * lr_mult)

    x = normalised(z)
    if classes is not None and spec.class_width:
        embedded = linear("embed_proj", state["mapping.embed.weight"][classes], 1)
        x = torch.cat([x, normalised(F.leaky_relu(embedded, 0.2) * 2**0.5)], 1)
    elif classes is not None:
        one_hot = torch.eye(spec.num_classes, dtype=z.dtype)[classes]
        x = torch.cat([x, normalised(linear("embed", one_hot, 1))], 1)
    for index in range(spec.num_mapping_layers):
        x = F.leaky_relu(linear(f"fc{index}", x, spec.mapping_lr_mult), 0.2) * 2**0.5
    return x


def _generator(spec: StyleGAN3Spec, rng: np.random.Generator) -> Module:
    build = ModuleBuilder(OfficialSpec(w_dim=spec.w_dim), rng)
    geometry = spec.geometry
    shared = {"w_dim": spec.w_dim, "img_resolution": geometry.resolution, "img_channels": 3}
    layers = {
        name: _layer(spec, build, layer)
        for name, layer in zip(geometry.names, geometry.layers, strict=True)
    }
    attributes = {
        **shared,
        "num_ws": geometry.num_layers + 2,
        "num_layers": geometry.num_layers,
        "num_critical": geometry.num_critical,
        "margin_size": geometry.margin,
        "output_scale": spec.output_scale,
        "num_fp16_res": 4,
        "layer_names": geometry.names,
    }
    synthesis = Module(
        "SynthesisNetwork",
        modules={"input": _input(spec, build, geometry.layers[0]), **layers},
        attributes=attributes,
        kwargs=shared,
    )
    arguments = {"z_dim": spec.z_dim, "c_dim": spec.num_classes, **shared}
    return Module(
        "Generator",
        modules={"synthesis": synthesis, "mapping": _mapping(spec, build)},
        attributes=arguments | {"num_ws": geometry.num_layers + 2},
        kwargs=arguments | {"mapping_kwargs": EasyDict(num_layers=spec.num_mapping_layers)},
    )


def _mapping(spec: StyleGAN3Spec, build: ModuleBuilder) -> Module:
    modules: dict[str, Module] = {}
    num_in = spec.z_dim
    if spec.class_width:
        embedding = {"weight": build.draw(spec.num_embeddings, spec.class_width)}
        modules["embed"] = Module("Embedding", parameters=embedding)
        if spec.num_classes or spec.has_unused_projection:
            modules["embed_proj"] = build.fully_connected(
                spec.class_width, spec.z_dim, activation="lrelu"
            )
        num_in += spec.z_dim if spec.num_classes else 0
    elif spec.num_classes:
        modules["embed"] = build.fully_connected(spec.num_classes, spec.w_dim)
        num_in += spec.w_dim
    for index in range(spec.num_mapping_layers):
        modules[f"fc{index}"] = build.fully_connected(
            num_in if index == 0 else spec.w_dim,
            spec.w_dim,
            activation="lrelu",
            lr_mult=spec.mapping_lr_mult,
        )
    has_means = spec.class_width and spec.num_classes
    shape = (spec.num_classes, spec.w_dim) if has_means else (spec.w_dim,)
    return Module("MappingNetwork", buffers={"w_avg": build.draw(*shape)}, modules=modules)


def _input(spec: StyleGAN3Spec, build: ModuleBuilder, first: LayerGeometry) -> Module:
    width = first.in_channels
    affine = build.fully_connected(spec.w_dim, 4, bias_init=1)
    transform = torch.eye(3) + build.draw(3, 3, scale=0.05) * torch.tensor([[1.0], [1.0], [0.0]])
    return Module(
        "SynthesisInput",
        parameters={"weight": build.draw(width, width)},
        buffers={
            "transform": transform,
            "freqs": build.draw(width, 2, scale=first.in_cutoff),
            "phases": build.draw(width),
        },
        modules={"affine": affine},
        attributes={
            "channels": width,
            "size": np.array([first.in_size] * 2),
            "sampling_rate": np.float64(first.in_rate),
            "bandwidth": np.float64(first.in_cutoff),
        },
    )


def _layer(spec: StyleGAN3Spec, build: ModuleBuilder, layer: LayerGeometry) -> Module:
    shape = (layer.out_channels, layer.in_channels, layer.kernel, layer.kernel)
    up_filter, down_filter = layer.filters()
    filters = {"up_filter": up_filter, "down_filter": down_filter}
    return Module(
        "SynthesisLayer",
        parameters={"weight": build.draw(*shape), "bias": build.draw(layer.out_channels)},
        buffers={
            "magnitude_ema": build.draw(scale=0.2).exp(),
            **{name: taps for name, taps in filters.items() if taps is not None},
        },
        modules={"affine": build.fully_connected(spec.w_dim, layer.in_channels, bias_init=1)},
        attributes={
            "is_torgb": layer.is_torgb,
            "use_fp16": np.bool_(layer.out_rate * 8 > spec.geometry.resolution),
            "in_size": np.array([layer.in_size] * 2),
            "out_size": np.array([layer.out_size] * 2),
            "conv_kernel": layer.kernel,
            "conv_clamp": spec.conv_clamp,
            "up_factor": layer.up,
            "up_taps": layer.up_taps,
            "down_factor": layer.down,
            "down_taps": layer.down_taps,
            "down_radial": layer.is_radial,
            "padding": [*layer.padding, *layer.padding],
            **spec.layer_attributes,
        },
    )

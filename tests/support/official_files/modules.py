"""The layers and blocks of the official PyTorch implementation, with random tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from tests.support.official_files.pickling import Module
from tests.support.official_files.specification import OfficialSpec, stated
from tests.support.reference_networks import FILTER


class ModuleBuilder:
    """Draws a network's tensors and builds its layers."""

    def __init__(self, spec: OfficialSpec, rng: np.random.Generator) -> None:
        self.spec, self.rng = spec, rng

    def draw(self, *shape: int, scale: float = 1.0, mean: float = 0.0) -> Tensor:
        values = mean + scale * self.rng.standard_normal(shape)
        return torch.from_numpy(np.asarray(values, dtype=np.float32))

    def fully_connected(
        self,
        num_in: int,
        num_out: int,
        *,
        activation: str = "linear",
        lr_mult: float = 1,
        bias_init: int = 0,
    ) -> Module:
        defaults = {"activation": "linear", "lr_multiplier": 1.0, "bias_init": 0}
        given = {"activation": activation, "lr_multiplier": lr_mult, "bias_init": bias_init}
        return Module(
            "FullyConnectedLayer",
            parameters={
                "weight": self.draw(num_out, num_in, scale=1 / lr_mult),
                "bias": self.draw(num_out, scale=0.2 / lr_mult, mean=bias_init),
            },
            attributes={
                "activation": activation,
                "weight_gain": lr_mult / np.sqrt(num_in),
                "bias_gain": lr_mult,
            },
            args=(num_in, num_out),
            kwargs={key: value for key, value in given.items() if value != defaults[key]},
        )

    def mapping(
        self, *, z_dim: int, w_dim: int, num_ws: int | None, num_layers: int, lr_mult: float
    ) -> Module:
        num_classes = self.spec.num_classes
        modules: dict[str, Module] = {}
        if num_classes:
            modules["embed"] = self.fully_connected(num_classes, w_dim)
        num_in = z_dim + (w_dim if num_classes else 0)
        for index in range(num_layers):
            modules[f"fc{index}"] = self.fully_connected(
                num_in if index == 0 else w_dim, w_dim, activation="lrelu", lr_mult=lr_mult
            )
        arguments = {"z_dim": z_dim, "c_dim": num_classes, "w_dim": w_dim, "num_ws": num_ws}
        w_avg_beta = None if num_ws is None else 0.995
        return Module(
            "MappingNetwork",
            buffers={} if num_ws is None else {"w_avg": self.draw(w_dim, scale=0.5)},
            modules=modules,
            attributes=arguments | {"num_layers": num_layers, "w_avg_beta": w_avg_beta},
            kwargs=arguments,
        )

    def synthesis_layer(self, num_in: int, num_out: int, resolution: int, up: int) -> Module:
        spec = self.spec
        return Module(
            "SynthesisLayer",
            parameters={
                "weight": self.draw(num_out, num_in, 3, 3),
                "noise_strength": self.draw(scale=0.05, mean=0.2),
                "bias": self.draw(num_out, scale=0.2),
            },
            buffers={
                "resample_filter": FILTER.float(),
                "noise_const": self.draw(resolution, resolution),
            },
            modules={"affine": self.fully_connected(spec.w_dim, num_in, bias_init=1)},
            attributes={
                "resolution": resolution,
                "up": up,
                "use_noise": True,
                "activation": "lrelu",
                "conv_clamp": spec.generator_clamp,
                "padding": 1,
                "act_gain": np.sqrt(2),
            },
            args=(num_in, num_out),
            kwargs={
                "w_dim": spec.w_dim,
                "resolution": resolution,
                **({"up": 2, "resample_filter": [1, 3, 3, 1]} if up == 2 else {}),
                "conv_clamp": spec.generator_clamp,
                "channels_last": False,
            },
        )

    def to_rgb(self, num_in: int) -> Module:
        spec = self.spec
        return Module(
            "ToRGBLayer",
            parameters={
                "weight": self.draw(spec.img_channels, num_in, 1, 1),
                "bias": self.draw(spec.img_channels, scale=0.2),
            },
            modules={"affine": self.fully_connected(spec.w_dim, num_in, bias_init=1)},
            attributes={"conv_clamp": spec.generator_clamp, "weight_gain": 1 / np.sqrt(num_in)},
            args=(num_in, spec.img_channels),
            kwargs={
                "w_dim": spec.w_dim,
                "conv_clamp": spec.generator_clamp,
                "channels_last": False,
            },
        )

    def conv(
        self,
        num_in: int,
        num_out: int,
        size: int,
        *,
        is_skip: bool = False,
        up: int = 1,
        down: int = 1,
        clamp: float | None = None,
        is_trainable: bool = True,
    ) -> Module:
        activation = "linear" if is_skip else "lrelu"
        tensors = {"weight": self.draw(num_out, num_in, size, size)}
        attributes: dict[str, Any] = {
            "activation": activation,
            "up": up,
            "down": down,
            "conv_clamp": clamp,
            "padding": size // 2,
            "weight_gain": 1 / np.sqrt(num_in * size**2),
            "act_gain": 1 if is_skip else np.sqrt(2),
        }
        if is_skip:
            attributes["bias"] = None  # torch stores an absent parameter as a plain attribute
        else:
            tensors["bias"] = self.draw(num_out, scale=0.2)
        return Module(
            "Conv2dLayer",
            parameters=tensors if is_trainable else {},
            buffers={"resample_filter": FILTER.float()} | ({} if is_trainable else tensors),
            attributes=attributes,
            args=(num_in, num_out),
            kwargs={
                "kernel_size": size,
                **({"bias": False} if is_skip else {"activation": activation}),
                **({"up": up} if up > 1 else {}),
                **({"down": down, "resample_filter": [1, 3, 3, 1]} if down > 1 else {}),
                "trainable": is_trainable,
                "conv_clamp": clamp,
                "channels_last": False,
            },
        )

    def synthesis_block(self, resolution: int) -> Module:
        spec, is_first = self.spec, resolution == 4
        num_in = 0 if is_first else spec.num_generator_channels(resolution // 2)
        num_out = spec.num_generator_channels(resolution)
        is_last = resolution == spec.resolution
        modules: dict[str, Module] = {}
        if not is_first:
            modules["conv0"] = self.synthesis_layer(num_in, num_out, resolution, up=2)
        modules["conv1"] = self.synthesis_layer(num_out, num_out, resolution, up=1)
        has_rgb = is_last or spec.generator_skips == "skip"
        if has_rgb:
            modules["torgb"] = self.to_rgb(num_out)
        if not is_first and spec.generator_skips == "resnet":
            modules["skip"] = self.conv(num_in, num_out, 1, is_skip=True, up=2)
        arguments = {
            "w_dim": spec.w_dim,
            "resolution": resolution,
            "img_channels": spec.img_channels,
            "is_last": is_last,
        }
        return Module(
            "SynthesisBlock",
            parameters={"const": self.draw(num_out, 4, 4)} if is_first else {},
            buffers={"resample_filter": FILTER.float()},
            modules=modules,
            attributes={
                "in_channels": num_in,
                **arguments,
                "architecture": spec.generator_skips,
                "use_fp16": spec.uses_half(resolution),
                "channels_last": False,
                "num_conv": 1 if is_first else 2,
                "num_torgb": int(has_rgb),
            },
            args=(num_in, num_out),
            kwargs=arguments
            | {
                "use_fp16": spec.uses_half(resolution),
                **stated(spec, architecture=(spec.generator_skips, "skip")),
                **stated(spec, conv_clamp=(spec.generator_clamp, None)),
            },
        )

    def discriminator_block(self, resolution: int, first_layer: int) -> Module:
        spec, skips = self.spec, self.spec.discriminator_skips
        width = spec.num_discriminator_channels(resolution)
        num_in = width if resolution < spec.resolution else 0
        num_out = spec.num_discriminator_channels(resolution // 2)
        clamp = spec.discriminator_clamp
        modules: dict[str, Module] = {}

        def is_trainable() -> bool:
            return first_layer + len(modules) >= spec.freeze_layers

        if num_in == 0 or skips == "skip":
            modules["fromrgb"] = self.conv(
                spec.img_channels, width, 1, clamp=clamp, is_trainable=is_trainable()
            )
        modules["conv0"] = self.conv(width, width, 3, clamp=clamp, is_trainable=is_trainable())
        modules["conv1"] = self.conv(
            width, num_out, 3, down=2, clamp=clamp, is_trainable=is_trainable()
        )
        if skips == "resnet":
            modules["skip"] = self.conv(
                width, num_out, 1, is_skip=True, down=2, is_trainable=is_trainable()
            )
        arguments = {
            "resolution": resolution,
            "img_channels": spec.img_channels,
            "first_layer_idx": first_layer,
            "architecture": skips,
            "use_fp16": spec.uses_half(resolution),
        }
        return Module(
            "DiscriminatorBlock",
            buffers={"resample_filter": FILTER.float()},
            modules=modules,
            attributes={
                "in_channels": num_in,
                **arguments,
                "channels_last": False,
                "num_layers": len(modules),
            },
            args=(num_in, width, num_out),
            kwargs=arguments | {"conv_clamp": clamp},
        )

    def epilogue(self) -> Module:
        spec, width = self.spec, self.spec.num_discriminator_channels(4)
        group_size = {"group_size": spec.mbstd_group_size, "num_channels": 1}
        modules: dict[str, Module] = {}
        if spec.discriminator_skips == "skip":
            modules["fromrgb"] = self.conv(spec.img_channels, width, 1)
        modules["mbstd"] = Module("MinibatchStdLayer", attributes=group_size, kwargs=group_size)
        modules["conv"] = self.conv(width + 1, width, 3, clamp=spec.discriminator_clamp)
        modules["fc"] = self.fully_connected(width * 16, width, activation="lrelu")
        modules["out"] = self.fully_connected(width, spec.mapped_label_width or 1)
        arguments = {
            "cmap_dim": spec.mapped_label_width,
            "resolution": 4,
            "img_channels": spec.img_channels,
            "architecture": spec.discriminator_skips,
        }
        return Module(
            "DiscriminatorEpilogue",
            modules=modules,
            attributes={"in_channels": width, **arguments},
            args=(width,),
            kwargs=arguments
            | {"mbstd_group_size": spec.mbstd_group_size, "conv_clamp": spec.discriminator_clamp},
        )

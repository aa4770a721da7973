"""Random networks in the PyTorch layout, and the training snapshots that hold them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.support.official_files.modules import ModuleBuilder
from tests.support.official_files.pickling import EasyDict, Module, write_pickle
from tests.support.official_files.specification import OfficialSpec, State, stated


def write_pytorch_pickle(
    path: Path,
    *,
    spec: OfficialSpec,
    seed: int,
    protocol: int = 4,
    easydict: bool = True,
    is_numpy_2: bool = False,
) -> tuple[State, State | None]:
    """Writes a training snapshot; returns the state dicts of `G_ema` and `D`."""
    box: type[dict[str, Any]] = EasyDict if easydict else dict
    averaged = build_generator(spec, np.random.default_rng([seed, 0]), box)
    content: dict[str, Any] = {"G_ema": averaged}
    discriminator: Module | None = None
    if spec.has_discriminator:
        discriminator = build_discriminator(spec, np.random.default_rng([seed, 1]), box)
        content = {
            "G": build_generator(spec, np.random.default_rng([seed, 2]), box),
            "D": discriminator,
            "G_ema": averaged,
            "training_set_kwargs": box(
                class_name="training.dataset.ImageFolderDataset", path="x.zip", use_labels=False
            ),
            "augment_pipe": Module(
                "AugmentPipe",
                buffers={"p": torch.tensor(0.3), "Hz_geom": torch.ones(12)},
                attributes={"xflip": 1.0, "scale_std": 0.2},
                kwargs={"xflip": 1, "scale": 1},
            ),
        }
    write_pickle(path, content, protocol, is_numpy_2)
    return averaged.state_dict(), None if discriminator is None else discriminator.state_dict()


def build_generator(
    spec: OfficialSpec, rng: np.random.Generator, box: type[dict[str, Any]] = dict
) -> Module:
    build = ModuleBuilder(spec, rng)
    blocks = {f"b{r}": build.synthesis_block(r) for r in spec.block_resolutions}
    image = {"img_resolution": spec.resolution, "img_channels": spec.img_channels}
    synthesis_kwargs = stated(
        spec,
        channel_base=(spec.channel_base, 32768),
        channel_max=(spec.channel_max, 512),
        num_fp16_res=(spec.num_fp16_res, 0),
        conv_clamp=(spec.generator_clamp, None),
        architecture=(spec.generator_skips, "skip"),
    )
    mapping_kwargs = stated(
        spec,
        num_layers=(spec.mapping_layers, 8),
        lr_multiplier=(spec.mapping_lr_mult, 0.01),
    )
    synthesis = Module(
        "SynthesisNetwork",
        modules=blocks,
        attributes={
            "w_dim": spec.w_dim,
            **image,
            "img_resolution_log2": int(math.log2(spec.resolution)),
            "block_resolutions": spec.block_resolutions,
            "num_ws": spec.num_ws,
        },
        kwargs={"w_dim": spec.w_dim, **image, **synthesis_kwargs},
    )
    mapping = build.mapping(
        z_dim=spec.z_dim,
        w_dim=spec.w_dim,
        num_ws=spec.num_ws,
        num_layers=spec.mapping_layers,
        lr_mult=spec.mapping_lr_mult,
    )
    mapping.kwargs = mapping.kwargs | mapping_kwargs
    arguments = {"z_dim": spec.z_dim, "c_dim": spec.num_classes, "w_dim": spec.w_dim, **image}
    return Module(
        "Generator",
        modules={"synthesis": synthesis, "mapping": mapping},
        attributes=arguments | {"num_ws": spec.num_ws},
        kwargs=arguments
        | {"mapping_kwargs": box(mapping_kwargs), "synthesis_kwargs": box(synthesis_kwargs)},
    )


def build_discriminator(
    spec: OfficialSpec, rng: np.random.Generator, box: type[dict[str, Any]] = dict
) -> Module:
    build = ModuleBuilder(spec, rng)
    modules: dict[str, Module] = {}
    first_layer = 0
    for resolution in spec.block_resolutions[:0:-1]:
        block = build.discriminator_block(resolution, first_layer)
        modules[f"b{resolution}"] = block
        first_layer += len(block.modules)
    mapping_kwargs = stated(
        spec,
        num_layers=(spec.discriminator_mapping_layers, 8),
        lr_multiplier=(spec.discriminator_mapping_lr_mult, 0.01),
    )
    if spec.num_classes:
        modules["mapping"] = build.mapping(
            z_dim=0,
            w_dim=spec.mapped_label_width,
            num_ws=None,
            num_layers=spec.discriminator_mapping_layers,
            lr_mult=spec.discriminator_mapping_lr_mult,
        )
        modules["mapping"].kwargs |= {"w_avg_beta": None, **mapping_kwargs}
    modules["b4"] = build.epilogue()
    image = {"img_resolution": spec.resolution, "img_channels": spec.img_channels}
    return Module(
        "Discriminator",
        modules=modules,
        attributes={
            "c_dim": spec.num_classes,
            **image,
            "img_resolution_log2": int(math.log2(spec.resolution)),
            "block_resolutions": spec.block_resolutions[:0:-1],
        },
        kwargs={
            "c_dim": spec.num_classes,
            **image,
            **stated(
                spec,
                architecture=(spec.discriminator_skips, "resnet"),
                channel_base=(spec.discriminator_channel_base or spec.channel_base, 32768),
                channel_max=(spec.discriminator_channel_max or spec.channel_max, 512),
                num_fp16_res=(spec.num_fp16_res, 0),
                conv_clamp=(spec.discriminator_clamp, None),
                cmap_dim=(spec.label_width, None),
            ),
            "block_kwargs": box(stated(spec, freeze_layers=(spec.freeze_layers, 0))),
            "mapping_kwargs": box(mapping_kwargs if spec.num_classes else {}),
            "epilogue_kwargs": box(stated(spec, mbstd_group_size=(spec.mbstd_group_size, 4))),
        },
    )

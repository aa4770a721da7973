"""Writes random StyleGAN2-ADA checkpoints in the two official layouts, PyTorch and TensorFlow.

The layouts copy the golden files: the persistence wrappers, attributes and constructor arguments
of the one, the nested networks, `static_kwargs` and variables of the other. What a file refers to
(`torch_utils`, `dnnlib`) exists only while it is written, and the source a file embeds raises.
Every tensor is random and acts: noise strengths and biases are not zero, `G` is not `G_ema`.
"""

from __future__ import annotations

import io
import math
import pickle
import re
import sys
import types
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, NoReturn

import numpy as np
import torch
from torch import Tensor, nn

from tests.reference_networks import FILTER, ReferenceArchitecture

POISON = "raise RuntimeError('embedded source was executed')\n"
State = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class OfficialSpec(ReferenceArchitecture):
    """A pair of networks and how a file describes them."""

    w_dim: int = 20
    img_channels: int = 3
    channel_base: int = 128
    channel_max: int = 16
    discriminator_channel_base: int | None = None
    """None: that of the generator; likewise for the maximum."""
    discriminator_channel_max: int | None = None
    label_width: int | None = None
    """Width of the discriminator's mapped label; None: that of its 4-px block."""
    num_fp16_res: int = 0
    freeze_layers: int = 0
    """The discriminator's first layers hold their weights in `_buffers`."""
    has_discriminator: bool = True
    omits_defaults: bool = False
    """Constructor arguments that equal the official defaults are left out."""
    has_lod_names: bool = False
    """TensorFlow only: `ToRGB_lod*`, `FromRGB_lod*`; a file with those is always `orig`, and only
    lod 0 is used."""

    def num_generator_channels(self, resolution: int) -> int:
        return min(self.channel_base // resolution, self.channel_max)

    def num_discriminator_channels(self, resolution: int) -> int:
        base = self.discriminator_channel_base or self.channel_base
        return min(base // resolution, self.discriminator_channel_max or self.channel_max)

    def uses_half(self, resolution: int) -> bool:
        return resolution >= max(2 * self.resolution >> self.num_fp16_res, 8)

    @property
    def mapped_label_width(self) -> int:
        """`cmap_dim`: 0 without classes."""
        if not self.num_classes:
            return 0
        return self.label_width or self.num_discriminator_channels(4)


@dataclass
class Module:
    """One wrapped module of the official implementation, as its pickle sees it."""

    class_name: str
    parameters: dict[str, Tensor] = field(default_factory=dict)
    buffers: dict[str, Tensor] = field(default_factory=dict)
    modules: dict[str, Module] = field(default_factory=dict)
    attributes: dict[str, Any] = field(default_factory=dict)
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)

    def state_dict(self, prefix: str = "") -> State:
        found = {
            prefix + name: tensor.clone()
            for name, tensor in (self.parameters | self.buffers).items()
        }
        for name, module in self.modules.items():
            found |= module.state_dict(f"{prefix}{name}.")
        return found

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[dict[str, Any]]]:
        hooks = ("backward", "forward", "forward_pre", "state_dict", "load_state_dict_pre")
        state = {
            "training": False,
            "_parameters": OrderedDict(
                (name, nn.Parameter(tensor, requires_grad=False))
                for name, tensor in self.parameters.items()
            ),
            "_buffers": OrderedDict(self.buffers),
            "_non_persistent_buffers_set": set(),
            **{f"_{name}_hooks": OrderedDict() for name in hooks},
            "_is_full_backward_hook": None,
            "_modules": OrderedDict(self.modules),
            **self.attributes,
            "_init_args": self.args,
            "_init_kwargs": self.kwargs,
        }
        meta = {
            "type": "class",
            "version": 6,
            "module_src": POISON,
            "class_name": self.class_name,
            "state": state,
        }
        return _reconstruct_persistent_obj, (meta,)


def _reconstruct_persistent_obj(meta: dict[str, Any]) -> NoReturn:
    raise RuntimeError("a wrapped module was rebuilt the official way")


_reconstruct_persistent_obj.__module__ = "torch_utils.persistence"


class EasyDict(dict[str, Any]):
    """Stands in for `dnnlib.util.EasyDict`."""

    __module__ = "dnnlib.util"


class Network:
    """Stands in for `dnnlib.tflib.network.Network`: its state is all a file holds."""

    __module__ = "dnnlib.tflib.network"

    def __init__(self, **state: Any) -> None:
        self.__dict__ |= state


REFERRED: dict[str, dict[str, Any]] = {
    "torch_utils": {},
    "torch_utils.persistence": {"_reconstruct_persistent_obj": _reconstruct_persistent_obj},
    "dnnlib": {},
    "dnnlib.util": {"EasyDict": EasyDict},
    "dnnlib.tflib": {},
    "dnnlib.tflib.network": {"Network": Network},
}


@contextmanager
def official_modules() -> Iterator[None]:
    """The modules a file refers to, importable until the block ends."""
    assert not REFERRED.keys() & sys.modules.keys()
    try:
        for name, contents in REFERRED.items():
            sys.modules[name] = types.ModuleType(name)
            sys.modules[name].__dict__.update(contents)
        yield
    finally:
        for name in REFERRED:
            sys.modules.pop(name, None)


_PurePickler: Any = vars(pickle)["_Pickler"]  # the one whose methods a subclass can replace


class _Pickler(_PurePickler):
    """Refers to numpy's internals by their names before numpy 2, as the official files do."""

    dispatch: ClassVar[dict[type, Callable[..., None]]] = dict(_PurePickler.dispatch)

    def save_global(self, obj: Any, name: str | None = None) -> None:
        module = getattr(obj, "__module__", None) or ""
        if not module.startswith("numpy._core"):
            super().save_global(obj, name)
            return
        old, name = module.replace("numpy._core", "numpy.core"), obj.__qualname__
        if self.proto >= 4:
            self.save(old)
            self.save(name)
            self.write(pickle.STACK_GLOBAL)
        else:
            self.write(pickle.GLOBAL + f"{old}\n{name}\n".encode())
        self.memoize(obj)

    dispatch[types.FunctionType] = save_global


def _write(path: Path, content: Any, protocol: int, is_numpy_2: bool) -> None:
    file = io.BytesIO()
    with official_modules():
        (pickle.Pickler if is_numpy_2 else _Pickler)(file, protocol).dump(content)
    path.write_bytes(file.getvalue())


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
    _write(path, content, protocol, is_numpy_2)
    return averaged.state_dict(), None if discriminator is None else discriminator.state_dict()


class _Init:
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
                **_given(spec, architecture=(spec.generator_skips, "skip")),
                **_given(spec, conv_clamp=(spec.generator_clamp, None)),
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


def _given(spec: OfficialSpec, **arguments: tuple[Any, Any]) -> dict[str, Any]:
    """The arguments (value, official default) that the file states."""
    return {
        name: value
        for name, (value, default) in arguments.items()
        if not (spec.omits_defaults and value == default)
    }


def build_generator(
    spec: OfficialSpec, rng: np.random.Generator, box: type[dict[str, Any]] = dict
) -> Module:
    init = _Init(spec, rng)
    blocks = {f"b{r}": init.synthesis_block(r) for r in spec.block_resolutions}
    image = {"img_resolution": spec.resolution, "img_channels": spec.img_channels}
    synthesis_kwargs = _given(
        spec,
        channel_base=(spec.channel_base, 32768),
        channel_max=(spec.channel_max, 512),
        num_fp16_res=(spec.num_fp16_res, 0),
        conv_clamp=(spec.generator_clamp, None),
        architecture=(spec.generator_skips, "skip"),
    )
    mapping_kwargs = _given(
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
    mapping = init.mapping(
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
    init = _Init(spec, rng)
    modules: dict[str, Module] = {}
    first_layer = 0
    for resolution in spec.block_resolutions[:0:-1]:
        block = init.discriminator_block(resolution, first_layer)
        modules[f"b{resolution}"] = block
        first_layer += len(block.modules)
    mapping_kwargs = _given(
        spec,
        num_layers=(spec.discriminator_mapping_layers, 8),
        lr_multiplier=(spec.discriminator_mapping_lr_mult, 0.01),
    )
    if spec.num_classes:
        modules["mapping"] = init.mapping(
            z_dim=0,
            w_dim=spec.mapped_label_width,
            num_ws=None,
            num_layers=spec.discriminator_mapping_layers,
            lr_mult=spec.discriminator_mapping_lr_mult,
        )
        modules["mapping"].kwargs |= {"w_avg_beta": None, **mapping_kwargs}
    modules["b4"] = init.epilogue()
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
            **_given(
                spec,
                architecture=(spec.discriminator_skips, "resnet"),
                channel_base=(spec.discriminator_channel_base or spec.channel_base, 32768),
                channel_max=(spec.discriminator_channel_max or spec.channel_max, 512),
                num_fp16_res=(spec.num_fp16_res, 0),
                conv_clamp=(spec.discriminator_clamp, None),
                cmap_dim=(spec.label_width, None),
            ),
            "block_kwargs": box(_given(spec, freeze_layers=(spec.freeze_layers, 0))),
            "mapping_kwargs": box(mapping_kwargs if spec.num_classes else {}),
            "epilogue_kwargs": box(_given(spec, mbstd_group_size=(spec.mbstd_group_size, 4))),
        },
    )


def write_tensorflow_pickle(
    path: Path, *, spec: OfficialSpec, seed: int, protocol: int = 3, is_numpy_2: bool = False
) -> tuple[State, State | None]:
    """Writes a tuple (G, D, Gs); returns the state dicts of `Gs` and `D` by their PyTorch names."""
    averaged = build_generator(spec, np.random.default_rng([seed, 0])).state_dict()
    last = build_generator(spec, np.random.default_rng([seed, 2])).state_dict()
    discriminator = build_discriminator(spec, np.random.default_rng([seed, 1])).state_dict()
    networks = (
        _tensorflow_generator("G", spec, last),
        _tensorflow_discriminator(spec, discriminator),
        _tensorflow_generator("Gs", spec, averaged),
    )
    _write(path, networks, protocol, is_numpy_2)
    return averaged, discriminator


def _network(name: str, build: str, variables: dict[str, np.ndarray], **more: Any) -> Network:
    return Network(
        version=5,
        name=name,
        static_kwargs=more.get("static_kwargs", EasyDict()),
        components=more.get("components", {}),
        build_module_src=POISON,
        build_func_name=build,
        variables=list(variables.items()),
    )


def _tensorflow_generator(name: str, spec: OfficialSpec, state: State) -> Network:
    variables = tensorflow_variables(state, spec) | _unused_lods(spec, is_generator=True)
    parts: dict[str, dict[str, np.ndarray]] = {"mapping": {}, "synthesis": {}, "": {}}
    for path, value in variables.items():
        part = path.partition("/")[0] if "/" in path else ""
        parts[part][path.removeprefix(f"{part}/")] = value
    static_kwargs = {
        "latent_size": spec.z_dim,
        "dlatent_size": spec.w_dim,
        "resolution": spec.resolution,
        "fmap_base": spec.channel_base // 2,
        "fmap_max": spec.channel_max,
        "truncation_psi": 0.5,
        **_given(
            spec,
            label_size=(spec.num_classes, 0),
            num_channels=(spec.img_channels, 3),
            mapping_layers=(spec.mapping_layers, 8),
            mapping_lrmul=(spec.mapping_lr_mult, 0.01),
            num_fp16_res=(spec.num_fp16_res, 0),
            conv_clamp=(spec.generator_clamp, None),
        ),
        **({} if spec.has_lod_names else _given(spec, architecture=(spec.generator_skips, "skip"))),
    }
    return _network(
        name,
        "G_main",
        parts[""],
        static_kwargs=EasyDict(static_kwargs),
        components={
            key: _network(f"G_{key}", f"G_{key}", parts[key]) for key in ("mapping", "synthesis")
        },
    )


def _tensorflow_discriminator(spec: OfficialSpec, state: State) -> Network:
    static_kwargs = {
        "resolution": spec.resolution,
        "fmap_base": (spec.discriminator_channel_base or spec.channel_base) // 2,
        "fmap_max": spec.discriminator_channel_max or spec.channel_max,
        **_given(
            spec,
            label_size=(spec.num_classes, 0),
            num_channels=(spec.img_channels, 3),
            num_fp16_res=(spec.num_fp16_res, 0),
            conv_clamp=(spec.discriminator_clamp, None),
            mbstd_group_size=(spec.mbstd_group_size, None),
        ),
        **(
            {}
            if spec.has_lod_names
            else _given(spec, architecture=(spec.discriminator_skips, "resnet"))
        ),
    }
    if spec.num_classes:
        static_kwargs |= _given(
            spec,
            mapping_layers=(spec.discriminator_mapping_layers, 0),
            mapping_lrmul=(spec.discriminator_mapping_lr_mult, 0.1),
            mapping_fmaps=(spec.label_width, None),
        )
    variables = tensorflow_variables(state, spec) | _unused_lods(spec, is_generator=False)
    return _network("D", "D_main", variables, static_kwargs=EasyDict(static_kwargs))


def _unused_lods(spec: OfficialSpec, *, is_generator: bool) -> dict[str, np.ndarray]:
    """What progressive growing leaves behind: image layers of the lower resolutions."""
    found: dict[str, np.ndarray] = {}
    for lod, resolution in enumerate(spec.block_resolutions[-2::-1], start=1):
        if not spec.has_lod_names:
            break
        if is_generator:
            width, layer = spec.num_generator_channels(resolution), f"synthesis/ToRGB_lod{lod}"
            found[f"{layer}/weight"] = np.ones((1, 1, width, spec.img_channels), np.float32)
            found[f"{layer}/bias"] = np.ones(spec.img_channels, np.float32)
            found[f"{layer}/mod_weight"] = np.ones((spec.w_dim, width), np.float32)
            found[f"{layer}/mod_bias"] = np.ones(width, np.float32)
        else:
            width, layer = spec.num_discriminator_channels(resolution), f"FromRGB_lod{lod}"
            found[f"{layer}/weight"] = np.ones((1, 1, spec.img_channels, width), np.float32)
            found[f"{layer}/bias"] = np.ones(width, np.float32)
    return found


TENSORFLOW_NAMES = (
    (r"mapping\.w_avg", "dlatent_avg"),
    (r"mapping\.embed", "mapping/LabelEmbed"),
    (r"mapping\.fc(\d+)", r"mapping/Dense\1"),
    (r"synthesis\.b4\.const", "synthesis/4x4/Const/const"),
    (r"synthesis\.b4\.conv1", "synthesis/4x4/Conv"),
    (r"synthesis\.b(\d+)\.conv0", r"synthesis/\1x\1/Conv0_up"),
    (r"synthesis\.b(\d+)\.conv1", r"synthesis/\1x\1/Conv1"),
    (r"synthesis\.b(\d+)\.torgb", r"synthesis/\1x\1/ToRGB"),
    (r"synthesis\.b(\d+)\.skip", r"synthesis/\1x\1/Skip"),
    (r"b(\d+)\.fromrgb", r"\1x\1/FromRGB"),
    (r"b(\d+)\.conv0", r"\1x\1/Conv0"),
    (r"b(\d+)\.conv1", r"\1x\1/Conv1_down"),
    (r"b(\d+)\.skip", r"\1x\1/Skip"),
    (r"b4\.conv", "4x4/Conv"),
    (r"b4\.fc", "4x4/Dense0"),
    (r"b4\.out", "Output"),
)
"""Start of a PyTorch name, and of the TensorFlow name."""


def tensorflow_variables(state: State, spec: OfficialSpec) -> dict[str, np.ndarray]:
    """A generator's or discriminator's state as TensorFlow kept it."""
    is_generator = "synthesis.b4.const" in state
    found = {}
    for name, tensor in state.items():
        if not name.endswith("resample_filter"):
            value = _tensorflow_layout(name, tensor.numpy())
            found[_tensorflow_name(name, spec, is_generator)] = np.asarray(value, order="C")
    return found


def read_tensorflow_state(path: Path, index: int, spec: OfficialSpec) -> State:
    """The state dict of network `index` of a TensorFlow file, resample filters left out."""
    with path.open("rb") as file:
        network = _TensorflowUnpickler(file).load()[index]
    variables = dict(network.variables)
    for part, component in network.components.items():
        variables |= {f"{part}/{name}": value for name, value in component.variables}
    build = build_generator if network.components else build_discriminator
    found = {}
    for name, tensor in build(spec, np.random.default_rng(0)).state_dict().items():
        if name.endswith("resample_filter"):
            continue
        value = variables.pop(_tensorflow_name(name, spec, bool(network.components)))
        if name.endswith("affine.bias"):
            found[name] = torch.from_numpy(value + 1)
            continue
        places = np.arange(tensor.numel()).reshape(tensor.shape)  # where each element was put
        where = np.argsort(_tensorflow_layout(name, places), axis=None)
        found[name] = torch.from_numpy(value.reshape(-1)[where].reshape(tensor.shape))
    assert not variables, sorted(variables)
    return found


class _TensorflowUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        known = {
            ("dnnlib.util", "EasyDict"): EasyDict,
            ("dnnlib.tflib.network", "Network"): Network,
        }
        if module.partition(".")[0] == "dnnlib":
            return known[module, name]
        assert module.partition(".")[0] == "numpy", module
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def _tensorflow_name(name: str, spec: OfficialSpec, is_generator: bool) -> str:
    if name.endswith("noise_const"):
        resolution, conv = re.fullmatch(r"synthesis\.b(\d+)\.conv(.)\.\w+", name).groups()  # type: ignore[union-attr]
        return f"synthesis/noise{2 * int(math.log2(int(resolution))) - 5 + int(conv)}"
    for start, replacement in TENSORFLOW_NAMES:
        if matched := re.match(rf"{start}(?=\.|$)", name):
            rest = name[matched.end() :].replace(".affine.", ".mod_").replace(".", "/")
            path = matched.expand(replacement) + rest
            break
    else:
        raise AssertionError(name)
    if not is_generator and path.startswith("mapping/"):
        path = path.removeprefix("mapping/").replace("Dense", "Mapping")
    if spec.has_lod_names and (rgb := re.search(r"(\d+)x\d+/(ToRGB|FromRGB)", path)):
        lod = int(math.log2(spec.resolution // int(rgb[1])))
        path = path.replace(rgb[0], f"{rgb[2]}_lod{lod}")
    return path


def _tensorflow_layout(name: str, value: np.ndarray) -> np.ndarray:
    if name.endswith("noise_const"):
        return value[None, None]
    if name.endswith(".const"):
        return value[None]
    if name.endswith("affine.bias"):
        return value - 1
    if value.ndim == 4:
        value = value.transpose(2, 3, 1, 0)
        is_flipped = name.startswith("synthesis.") and re.search(r"conv0\.|skip\.", name)
        return value[::-1, ::-1] if is_flipped and ".b4." not in name else value
    return value.T if value.ndim == 2 else value

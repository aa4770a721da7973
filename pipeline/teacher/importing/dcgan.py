"""State dicts of DCGANs that describe themselves -> generator and discriminator.

From a state dict alone strides, paddings and activations are those of Radford et al. 2016; where
the file has the modules themselves, they say. Neighbours: `dcgan_layers.py` recognises a DCGAN by
its shapes, `dcgan_described.py` reads those with a JSON.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pipeline.teacher.architectures.dcgan import (
    DCGANDiscriminatorArchitecture,
    NamedDCGANArchitecture,
    NamedLayer,
    TransposedLayer,
)
from pipeline.teacher.importing.dcgan_described import convert_described
from pipeline.teacher.importing.dcgan_layers import (
    Layer,
    discriminator_layers,
    generator_layers,
)
from pipeline.teacher.importing.imported import Imported, naming
from pipeline.teacher.importing.infer import Converted
from pipeline.teacher.importing.source import Source, natural_order
from pipeline.teacher.importing.states import PARALLEL, StateDict, find_part, joined
from pipeline.teacher.spelling import Spelling
from shards.errors import UserError

GENERATOR_FILES = ("netG*", "generator*", "G.*")
DISCRIMINATOR_FILES = ("netD*", "discriminator*", "D.*")
GENERATOR = re.compile(r"(?i)(^|[._])(net_?g|g|gen)(_?ema)?[._]|generator")
DISCRIMINATOR = re.compile(r"(?i)(^|[._])(net_?d|d|disc)[._]|discriminator|critic")
ASSUMED = (
    "no tensor tells strides, paddings and activations: taken as in Radford et al. 2016; say "
    "otherwise with --architecture FILE.json"
)
_CONV = {"dilation": (1, 1), "groups": 1, "padding_mode": "zeros"}
_EXPECTED: dict[str, dict[str, Any]] = {
    "ConvTranspose2d": _CONV,
    "Conv2d": _CONV,
    "BatchNorm2d": {"eps": 1e-5, "affine": True, "track_running_stats": True},
    "ReLU": {},
    "LeakyReLU": {"negative_slope": 0.2},
    "Tanh": {},
    "Sigmoid": {},
    "Dropout": {},
    "Dropout2d": {},
    "Identity": {},
}
"""Modules of a DCGAN, and attributes that change what they compute."""


Modules = Mapping[str, Mapping[str, Any]]
"""Attributes of modules by name; none of a state dict."""


class Found(NamedTuple):
    """A network of a file."""

    source: Source
    state: StateDict
    layers: list[Layer]


def recognises(source: Source) -> bool:
    """Whether the JSON says so or, without one, shapes do."""
    if source.architecture is not None:
        return bool(source.architecture["family"] == "dcgan")
    return _find_generator(source) is not None


def convert(source: Source) -> Imported:
    """Generator and, where there is one, discriminator.

    Raises:
        ValueError: naming what does not fit.
    """
    found = _find_generator(source)
    notes: tuple[str, ...] = ()
    if source.architecture is not None:
        state = joined(source.states) if found is None else found.state
        if not state.entries:
            raise UserError(
                f"{source.path}: holds no tensors; name a file with the weights of a GAN"
            )
        tensors = {state.spelling.name(name): value for name, value in state.load().items()}
        generator: Any = convert_described(tensors, dict(source.architecture))
    else:
        assert found is not None
        state = found.state
        generator = _convert_generator(found)
        notes = () if _modules(found) else (ASSUMED,)
    file = "" if found is None or found.source is source else found.source.path.name
    judge = source.discriminator
    with naming(None if judge is None else judge.path):
        discriminator = _convert_discriminator(source, file, generator.arch)
    if discriminator is None and (beside := _beside(source)):
        notes += (f"{beside} lies beside it and is left out; name it with --discriminator",)
    return Imported(
        "DCGAN",
        generator,
        discriminator,
        notes,
        weights=": ".join(part for part in (file, state.key) if part),
        is_averaged=state.is_averaged,
    )


def _beside(source: Source) -> str | None:
    """The file of a discriminator that goes with the file of the generator by its name."""
    name = source.path.name.replace("netG", "netD")
    return name if name != source.path.name and name in source.names else None


def _find_generator(source: Source) -> Found | None:
    return _find(source, GENERATOR_FILES, GENERATOR, generator_layers)


def _find(
    source: Source,
    patterns: tuple[str, ...],
    network: re.Pattern[str],
    layers_of: Callable[[StateDict], list[Layer]],
) -> Found | None:
    """In the file, or in the last of the folder's files that has one."""
    names = sorted(source.matching(*patterns), key=natural_order) if source.is_folder else [""]
    for name in reversed(names):
        member = source.member(name) if name else source
        state = find_part(
            member.states, lambda state: _is_whole(state, network) and bool(layers_of(state))
        )
        if state is not None:
            return Found(member, state, layers_of(state))
    return None


def _is_whole(state: StateDict, network: re.Pattern[str]) -> bool:
    """Whether nothing of the network can be beside `state`: its prefix is a network's name."""
    prefix = state.prefix.removeprefix(PARALLEL)
    return not prefix or network.search(prefix) is not None


def _convert_generator(found: Found) -> Converted[NamedDCGANArchitecture]:
    modules = _modules(found)
    named: list[NamedLayer] = []
    for index, layer in enumerate(found.layers):
        is_first = index == 0
        padding = 0 if is_first else _usual_padding(found, layer, modules)
        named.append(_named(found, modules, index, layer.shape[1], 2 - is_first, padding))
    arch = NamedDCGANArchitecture(found.layers[0].shape[0], tuple(named))
    return Converted(arch, *_tensors(found))


def _convert_discriminator(
    source: Source, file: str, generator: Any
) -> Converted[DCGANDiscriminatorArchitecture] | None:
    """That of the option, of the generator's file, or of the folder's file of the same name."""
    same = file.replace("netG", "netD")
    patterns = (same,) if same != file and same in source.names else DISCRIMINATOR_FILES
    found = _find(source.discriminator or source, patterns, DISCRIMINATOR, discriminator_layers)
    if found is None:
        if source.discriminator is not None:
            raise ValueError("no discriminator of a DCGAN; leave out --discriminator")
        return None
    modules = _modules(found)
    named: list[NamedLayer] = []
    for index, layer in enumerate(found.layers):
        is_last = index == len(found.layers) - 1
        padding = 0 if is_last else _usual_padding(found, layer, modules)
        named.append(_named(found, modules, index, layer.shape[0], 2 - is_last, padding))
    side = 1
    for each in reversed(named):
        side = (side - 1) * each.layer.stride + each.layer.kernel - 2 * each.layer.padding
    channels = found.layers[0].shape[1]
    if (side, channels) != (generator.resolution, generator.image_channels):
        raise ValueError(
            f"the discriminator is for images of {side} px and {channels} channels, the generator "
            f"makes {generator.resolution} px and {generator.image_channels}"
        )
    arch = DCGANDiscriminatorArchitecture(side, channels, tuple(named))
    return Converted(arch, *_tensors(found))


def _usual_padding(found: Found, layer: Layer, modules: Modules) -> int:
    """What makes a stride of 2 double the side, or halve it."""
    kernel = layer.shape[3]
    if (kernel < 2 or kernel % 2) and not modules:
        raise ValueError(
            f"{found.state.spelling.name(layer.conv)}: kernel {kernel}; give strides and paddings "
            "in a JSON with --architecture"
        )
    return (kernel - 2) // 2


def _named(
    found: Found, modules: Modules, index: int, num_channels: int, stride: int, padding: int
) -> NamedLayer:
    """A layer with this stride and padding, unless its module in the file says otherwise."""
    conv, norm, shape, has_bias = found.layers[index]
    stored = modules.get(conv, {})
    layer = TransposedLayer(
        num_channels=num_channels,
        kernel=shape[3],
        stride=_one(stored, "stride", stride),
        padding=_one(stored, "padding", padding),
        output_padding=_one(stored, "output_padding", 0),
        has_bias=has_bias,
        has_norm=bool(norm),
    )
    if norm and norm != (_next(conv) or norm):
        place = found.state.spelling.name(norm)
        raise ValueError(f"{place}: something is between this norm and its convolution")
    is_last = index == len(found.layers) - 1
    return NamedLayer(layer, conv, norm, "" if is_last else _activation(found, index))


def _activation(found: Found, index: int) -> str:
    """Path of the activation after a layer: the next of a sequence, or a name of our own."""
    layer, following = found.layers[index : index + 2]
    before = layer.norm or layer.conv
    path = _next(before)
    is_free = path and path not in {following.conv, following.norm}
    return path if is_free else f"{before}_activation"


def _next(path: str) -> str:
    """What follows the module `path` in a sequence; "" where it is in none."""
    parent, _, place = path.rpartition(".")
    return f"{parent}.{int(place) + 1}".lstrip(".") if place.isdecimal() else ""


def _modules(found: Found) -> Modules:
    """Attributes of the modules by name, where the file has the network itself.

    Raises:
        ValueError: naming a module that computes something else than a DCGAN's.
    """
    tree = found.source.trees.get(found.state.place)
    if tree is None:
        return {}
    states: dict[str, Mapping[str, Any]] = {}
    parents = {name.rpartition(".")[0] for name in tree.modules}
    for name, module in tree.modules.items():
        if not name.startswith(found.state.prefix):
            continue
        expected = _EXPECTED.get(module.class_name)
        is_wrong = name not in parents and (
            expected is None
            or any(module.state.get(key, value) != value for key, value in expected.items())
        )
        if name and is_wrong:
            raise ValueError(
                f"{tree.weights.spelling.name(name)}: a {module.class_name} that no DCGAN has"
            )
        states[name.removeprefix(found.state.prefix)] = module.state
    return states


def _one(state: Mapping[str, Any], name: str, usual: int) -> int:
    """An attribute of a convolution that is the same along both axes."""
    value = state.get(name, usual)
    values = set(value) if isinstance(value, tuple) else {value}
    if len(values) != 1 or not all(type(each) is int for each in values):
        raise ValueError(f"{name}: {value!a} is not the same along both axes")
    return int(values.pop())


def _tensors(found: Found) -> tuple[dict[str, Tensor], Spelling]:
    tensors = {f"module.{name}": value for name, value in found.state.load().items()}
    for layer in found.layers:
        if layer.norm:
            tensors.setdefault(f"module.{layer.norm}.num_batches_tracked", torch.tensor(0))
    spelling = found.state.spelling
    return tensors, Spelling(lambda name: spelling.name(name.removeprefix("module.")))

"""A plain state dict and a small JSON of its architecture -> architecture and tensors.

The JSON needs the family and what no shape tells; anything else it says must agree with the
tensors.

StyleGAN2: names as in the official checkpoints, either bare or under `generator.` / `G_ema.` and
`discriminator.` / `D.`. DCGAN: any names; layers are taken in their order in the file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from pipeline.teacher.architectures.dcgan import DCGANArchitecture, TransposedLayer
from pipeline.teacher.architectures.stylegan2 import (
    StyleGAN2Architecture,
    StyleGAN2DiscriminatorArchitecture,
)
from pipeline.teacher.importing.imported import Imported, naming
from pipeline.teacher.importing.infer import Converted, infer_discriminator, infer_generator
from pipeline.teacher.importing.source import Source, read_json
from pipeline.teacher.importing.states import joined
from pipeline.teacher.spelling import Spelling
from shards.errors import UserError

_UNTOLD = ("conv_clamp", "mapping_lr_mult", "num_half_blocks")
_UNTOLD_D = (*_UNTOLD, "mbstd_group_size")
_GENERATOR_PREFIXES = ("G_ema.", "generator.")
_DISCRIMINATOR_PREFIXES = ("D.", "discriminator.")
_CONV_NAMES = ("weight", "bias")
_NORM_NAMES = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


class _Module(NamedTuple):
    """Tensors of a module, by kind such as `weight`."""

    place: str
    """Its name in the file."""
    tensors: dict[str, Tensor]


def read_architecture(path: Path) -> dict[str, Any]:
    """The JSON object in `path`.

    Raises:
        UserError: if it is not one with a known family.
    """
    content = read_json(path)
    if not isinstance(content, dict) or content.get("family") not in ("stylegan2", "dcgan"):
        raise UserError(f'{path}: family must be "stylegan2" or "dcgan"')
    return content


def recognises_stylegan2(source: Source) -> bool:
    """Whether the JSON says so."""
    return source.architecture is not None and source.architecture["family"] == "stylegan2"


def recognises_dcgan(source: Source) -> bool:
    """Whether the JSON says so."""
    return source.architecture is not None and source.architecture["family"] == "dcgan"


def convert_stylegan2(source: Source) -> Imported:
    """Generator and, where there is one, discriminator; raises as `convert_generator`."""
    said = dict(source.architecture or {})
    tensors = _tensors(source)
    generator = convert_generator(tensors, said)
    judge = source.discriminator
    with naming(None if judge is None else judge.path):
        discriminator = convert_discriminator(
            tensors if judge is None else _tensors(judge), said, is_alone=judge is not None
        )
    return Imported("StyleGAN2 state dict", generator, discriminator)


def convert_dcgan(source: Source) -> Imported:
    """The generator; raises as `convert_dcgan_generator`."""
    generator = convert_dcgan_generator(_tensors(source), dict(source.architecture or {}))
    return Imported("DCGAN state dict", generator)


def _tensors(source: Source) -> dict[str, Tensor]:
    state = joined(source.states)
    if not state.entries:
        raise UserError(f"{source.path}: holds no tensors")
    return state.load()


def convert_generator(
    tensors: Mapping[str, Tensor], said: dict[str, Any]
) -> Converted[StyleGAN2Architecture]:
    """The StyleGAN2 generator among `tensors`.

    Raises:
        ValueError: if there is none, or the JSON says otherwise.
    """
    said = {name: value for name, value in said.items() if name != "discriminator"}
    prefix = _find_prefix(tensors, _GENERATOR_PREFIXES)
    generator = _under(tensors, prefix)
    if not prefix:
        generator = {n: t for n, t in generator.items() if n.startswith(("mapping.", "synthesis."))}
    spelling = Spelling.under(prefix)
    known = {name: said[name] for name in _UNTOLD if name in said}
    arch = infer_generator(generator, spelling, **known)
    _check_agreement(StyleGAN2Architecture, arch, said)
    return Converted(arch, generator, spelling)


def convert_discriminator(
    tensors: Mapping[str, Tensor], said: dict[str, Any], *, is_alone: bool
) -> Converted[StyleGAN2DiscriminatorArchitecture] | None:
    """The StyleGAN2 discriminator among `tensors`, if there is one; `is_alone`: in a file of its
    own, where names may have no prefix. Raises as `convert_generator` does.
    """
    said = said.get("discriminator", {})
    if not isinstance(said, dict):
        raise ValueError("discriminator: must be an object in the JSON")
    prefix = _find_prefix(tensors, _DISCRIMINATOR_PREFIXES)
    if not prefix and not is_alone:
        return None
    discriminator, spelling = _under(tensors, prefix), Spelling.under(prefix)
    known = {"mbstd_group_size": 4} | {name: said[name] for name in _UNTOLD_D if name in said}
    if not said.get("num_classes"):  # layers of a mapping that is not there
        said = {name: value for name, value in said.items() if name != "num_mapping_layers"}
    arch = infer_discriminator(discriminator, spelling, **known)
    _check_agreement(StyleGAN2DiscriminatorArchitecture, arch, said)
    return Converted(arch, discriminator, spelling)


def convert_dcgan_generator(
    tensors: Mapping[str, Tensor], said: dict[str, Any]
) -> Converted[DCGANArchitecture]:
    """A generator of transposed convolutions, each perhaps followed by a batch normalisation.

    `said` may have `strides`, `paddings` and `output_paddings`, one number for each layer. Without
    them the first layer is taken to have stride 1 and padding 0, the others stride 2 and the
    padding that doubles the side: those of Radford et al. 2016 with 4x4 kernels.

    Raises:
        ValueError: if a tensor is neither, a list is of the wrong length, or layers do not fit.
    """
    convs: list[_Module] = []
    norms: dict[int, _Module] = {}
    prefix = _find_prefix(tensors, _GENERATOR_PREFIXES)
    for module in _group({n: t for n, t in tensors.items() if n.startswith(prefix)}):
        kinds = module.tensors.keys()
        if module.tensors["weight"].dim() == 4 and kinds <= set(_CONV_NAMES):
            convs.append(module)
        elif (
            "running_mean" in kinds
            and kinds <= set(_NORM_NAMES)
            and convs
            and len(convs) - 1 not in norms
        ):
            norms[len(convs) - 1] = module
        else:
            raise ValueError(
                f"{module.place or ', '.join(kinds)}: neither a transposed convolution nor a norm "
                "after one"
            )
    if not convs:
        raise ValueError("no transposed convolution [in, out, k, k] among the tensors")
    settings = {
        name: _per_layer(said, name, len(convs))
        for name in ("strides", "paddings", "output_paddings")
    }
    unknown = said.keys() - settings.keys() - {"family"}
    if unknown:
        raise ValueError(f"unknown {', '.join(sorted(unknown))} in the JSON; known: family, "
                         "strides, paddings, output_paddings")  # fmt: skip
    layers: list[TransposedLayer] = []
    renamed: dict[str, Tensor] = {}
    places: dict[str, str] = {}
    for index, conv in enumerate(convs):
        name = "torgb" if index == len(convs) - 1 else f"block{index}"
        layers.append(_describe_layer(index, conv, index in norms, settings))
        parts = {f"{name}.conv": conv}
        if index in norms:
            parts[f"{name}.norm"] = norms[index]
            renamed[f"{name}.norm.num_batches_tracked"] = torch.tensor(0)
        for part, module in parts.items():
            places[part] = module.place
            renamed |= {f"{part}.{kind}": tensor for kind, tensor in module.tensors.items()}
    try:
        arch = DCGANArchitecture(convs[0].tensors["weight"].shape[0], tuple(layers))
    except ValueError as error:  # speaks of layers[1]
        reason = re.sub(
            r"layers\[(\d+)\](?:: |\.)", lambda m: f"{convs[int(m[1])].place}: ", str(error)
        )
        raise ValueError(reason) from None

    def name_in_file(name: str) -> str:
        module, _, kind = name.rpartition(".")
        return f"{places[module]}.{kind}".lstrip(".")

    return Converted(arch, renamed, Spelling(name_in_file))


def _describe_layer(
    index: int, conv: _Module, has_norm: bool, settings: dict[str, list[int] | None]
) -> TransposedLayer:
    _, num_channels, _, kernel = conv.tensors["weight"].shape
    strides, paddings, extra = settings.values()
    stride = strides[index] if strides else (1 if index == 0 else 2)
    if paddings:
        padding = paddings[index]
    elif index == 0:
        padding = 0
    elif (kernel - stride) % 2 == 0 and kernel >= stride:
        padding = (kernel - stride) // 2
    else:
        raise ValueError(f"{conv.place}: kernel {kernel}; give strides and paddings in the JSON")
    return TransposedLayer(
        num_channels=num_channels,
        kernel=kernel,
        stride=stride,
        padding=padding,
        output_padding=extra[index] if extra else 0,
        has_bias="bias" in conv.tensors,
        has_norm=has_norm,
    )


def _per_layer(said: dict[str, Any], name: str, num_layers: int) -> list[int] | None:
    values = said.get(name)
    if values is None:
        return None
    if (
        not isinstance(values, list)
        or len(values) != num_layers
        or not all(type(value) is int for value in values)
    ):
        raise ValueError(f"{name}: expected {num_layers} whole numbers, one for each layer")
    return values


def _group(tensors: Mapping[str, Tensor]) -> list[_Module]:
    """Tensors by module: `main.0.weight` is `weight` of `main.0`."""
    groups: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        place, _, kind = name.rpartition(".")
        groups.setdefault(place, {})[kind] = tensor
    for place, group in groups.items():
        if "weight" not in group:
            kinds = ", ".join(group)
            raise ValueError(f"{place}: has {kinds} but no weight" if place else f"unknown {kinds}")
    return [_Module(place, group) for place, group in groups.items()]


def _find_prefix(tensors: Mapping[str, Tensor], prefixes: tuple[str, ...]) -> str:
    """The first of `prefixes` that a name has, "" if none has any."""
    return next((p for p in prefixes if any(name.startswith(p) for name in tensors)), "")


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}


def _check_agreement(kind: Any, arch: Any, said: dict[str, Any]) -> None:
    """What the JSON says must be what the shapes say."""
    inferred = asdict(arch)
    try:
        merged = asdict(TypeAdapter(kind).validate_python({**inferred, **said}))
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        place = ".".join(["architecture", *map(str, problem["loc"])])
        raise ValueError(f"{place}: {problem['msg'].removeprefix('Value error, ')}") from None
    for name in ("channel_base", "channel_max"):  # several pairs give the same widths
        if name in said:
            widths = [type(arch)(**merged).num_channels(r) for r in (4, *arch.block_resolutions)]
            if widths == [arch.num_channels(r) for r in (4, *arch.block_resolutions)]:
                merged[name] = inferred[name]
    for name, value in merged.items():
        if value != inferred[name]:
            raise ValueError(f"{name}: the JSON says {value}, the tensors {inferred[name]}")

"""A plain state dict with the names of the official StyleGAN2 -> architecture and tensors.

A JSON may say what no shape tells; anything else it says must agree with the tensors. The networks
are found by their names, bare or under `G_ema`, `generator`, `D`, `discriminator` or the like.
"""

from __future__ import annotations

import re
from dataclasses import asdict
from typing import Any

from pydantic import TypeAdapter, ValidationError

from pipeline.teacher.architectures.stylegan2 import (
    StyleGAN2Architecture,
    StyleGAN2DiscriminatorArchitecture,
)
from pipeline.teacher.importing.imported import Imported, naming
from pipeline.teacher.importing.infer import Converted, infer_discriminator, infer_generator
from pipeline.teacher.importing.source import Source
from pipeline.teacher.importing.states import StateDict, find_part, joined
from shards.errors import UserError

_UNTOLD = ("conv_clamp", "mapping_lr_mult", "num_half_blocks")
_UNTOLD_D = (*_UNTOLD, "mbstd_group_size")
_GENERATOR = re.compile(r"synthesis\.b\d+\.")
_DISCRIMINATOR = re.compile(r"b4\.(conv|fc|out)\.|b\d+\.fromrgb\.")


def recognises(source: Source) -> bool:
    """Whether the JSON says so or, without one, names do."""
    if source.architecture is not None:
        return bool(source.architecture["family"] == "stylegan2")
    return find_part(source.states, _is_generator) is not None


def convert(source: Source) -> Imported:
    """Generator and, where there is one, discriminator.

    Raises:
        ValueError: if there is no generator, or the JSON says otherwise.
    """
    said = dict(source.architecture or {})
    state = find_part(source.states, _is_generator) or _all(source)
    generator = _convert_generator(state, said)
    judge = source.discriminator
    with naming(None if judge is None else judge.path):
        if judge is None:
            state_d = find_part(source.states, _is_discriminator)
        else:
            state_d = find_part(judge.states, _is_discriminator) or _all(judge)
        discriminator = None if state_d is None else _convert_discriminator(state_d, said)
    assumed = (
        ()
        if source.architecture is not None
        else (
            "no tensor tells clamping, the mapping's learning-rate multiplier and half precision: "
            "taken as none, 0.01 and none; say otherwise with --architecture FILE.json",
        )
    )
    return Imported(
        "StyleGAN2 state dict",
        generator,
        discriminator,
        assumed,
        weights=state.key,
        is_averaged=state.is_averaged,
    )


def _is_generator(state: StateDict) -> bool:
    return any(map(_GENERATOR.match, state.entries))


def _is_discriminator(state: StateDict) -> bool:
    return any(map(_DISCRIMINATOR.match, state.entries))


def _all(source: Source) -> StateDict:
    state = joined(source.states)
    if not state.entries:
        raise UserError(f"{source.path}: holds no tensors; name a file with the weights of a GAN")
    return state


def _convert_generator(state: StateDict, said: dict[str, Any]) -> Converted[StyleGAN2Architecture]:
    said = {name: value for name, value in said.items() if name != "discriminator"}
    if not state.prefix:  # other networks may be beside it
        state = state.only(lambda name: name.startswith(("mapping.", "synthesis.")))
    tensors = state.load()
    known = {name: said[name] for name in _UNTOLD if name in said}
    arch = infer_generator(tensors, state.spelling, **known)
    _check_agreement(StyleGAN2Architecture, arch, said)
    return Converted(arch, tensors, state.spelling)


def _convert_discriminator(
    state: StateDict, said: dict[str, Any]
) -> Converted[StyleGAN2DiscriminatorArchitecture]:
    said = said.get("discriminator", {})
    if not isinstance(said, dict):
        raise ValueError("discriminator: must be an object in the JSON")
    tensors = state.load()
    known = {"mbstd_group_size": 4} | {name: said[name] for name in _UNTOLD_D if name in said}
    if not said.get("num_classes"):  # layers of a mapping that is not there
        said = {name: value for name, value in said.items() if name != "num_mapping_layers"}
    arch = infer_discriminator(tensors, state.spelling, **known)
    _check_agreement(StyleGAN2DiscriminatorArchitecture, arch, said)
    return Converted(arch, tensors, state.spelling)


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

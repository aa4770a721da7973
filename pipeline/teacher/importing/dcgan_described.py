"""A DCGAN's state dict and a JSON of its strides and paddings -> architecture and tensors.

Any names; layers are taken in their order in the file. Neighbour: `dcgan.py` needs no JSON.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pipeline.teacher.architectures.dcgan import DCGANArchitecture, TransposedLayer
from pipeline.teacher.importing.infer import Converted
from pipeline.teacher.spelling import Spelling

_CONV_NAMES = ("weight", "bias")
_NORM_NAMES = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


class _Module(NamedTuple):
    """Tensors of a module, by kind such as `weight`."""

    place: str
    """Its name in the file."""
    tensors: dict[str, Tensor]


def convert_described(
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
    for module in _group(tensors):
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

"""Tensors with the official StyleGAN2 names -> the architecture their shapes imply.

Names and shapes say everything but clamping, learning-rate multipliers, minibatch groups and
half-precision flags; those are given by whoever read the file. Neighbours: `stylegan2_ada.py`,
`stylegan2_tensorflow.py`, `states.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from pipeline.teacher.architecture import (
    DiscriminatorArchitecture,
    Skips,
    StyleGAN2Architecture,
)
from pipeline.teacher.networks.fir import resample_filter

Tensors = Mapping[str, Tensor]


def infer_generator(tensors: Tensors, **known: Any) -> StyleGAN2Architecture:
    """Architecture of the generator with these tensors; `known` are fields no shape tells.

    Raises:
        ValueError: if the tensors are not those of a StyleGAN2 generator.
    """
    resolutions = _resolutions(tensors, r"synthesis\.b(\d+)\.conv1\.weight")
    if "synthesis.b4.const" not in tensors or "mapping.w_avg" not in tensors:
        raise ValueError("no StyleGAN2 generator: synthesis.b4.const or mapping.w_avg is missing")
    w_dim = _shape(tensors, "mapping.w_avg", 1)[0]
    num_classes, z_dim = 0, w_dim
    if "mapping.fc0.weight" in tensors:
        z_dim = _shape(tensors, "mapping.fc0.weight", 2)[1]
    if "mapping.embed.weight" in tensors:
        width, num_classes = _shape(tensors, "mapping.embed.weight", 2)
        z_dim -= width
    widths = {r: _shape(tensors, f"synthesis.b{r}.conv1.weight", 4)[0] for r in resolutions}
    top = f"synthesis.b{resolutions[-1]}"
    return StyleGAN2Architecture(
        resolution=resolutions[-1],
        z_dim=z_dim,
        w_dim=w_dim,
        num_mapping_layers=_count(tensors, r"mapping\.fc\d+\.weight"),
        image_channels=_shape(tensors, f"{top}.torgb.weight", 4)[0],
        num_classes=num_classes,
        skips=_skips(tensors, "synthesis.b4.torgb.weight", f"{top}.skip.weight"),
        **_base_and_max(widths),
        **known,
    )


def infer_discriminator(tensors: Tensors, **known: Any) -> DiscriminatorArchitecture:
    """Architecture of the discriminator with these tensors; `known` are fields no shape tells.

    Raises:
        ValueError: if the tensors are not those of a StyleGAN2 discriminator.
    """
    resolutions = _resolutions(tensors, r"b(\d+)\.conv0\.weight")
    widths = {r: _shape(tensors, f"b{r}.conv0.weight", 4)[0] for r in resolutions}
    widths[4], in_width = _shape(tensors, "b4.conv.weight", 4)[:2]
    if in_width != widths[4] + 1:
        raise ValueError(
            f"discriminator: {in_width - widths[4]} minibatch-deviation channels; 1 is supported"
        )
    num_classes, mapping_width = 0, None
    if "mapping.embed.weight" in tensors:
        mapping_width, num_classes = _shape(tensors, "mapping.embed.weight", 2)
    top = f"b{resolutions[-1]}"
    return DiscriminatorArchitecture(
        resolution=resolutions[-1],
        image_channels=_shape(tensors, f"{top}.fromrgb.weight", 4)[1],
        num_classes=num_classes,
        skips=_skips(tensors, "b4.fromrgb.weight", f"{top}.skip.weight"),
        num_mapping_layers=_count(tensors, r"mapping\.fc\d+\.weight"),
        mapping_width=mapping_width,
        **_base_and_max(widths),
        **known,
    )


def complete(tensors: Tensors, expected: Iterable[str]) -> dict[str, Tensor]:
    """`tensors` with what some files leave out: the usual FIR, and no noise where none is used."""
    result = dict(tensors)
    for name in set(expected) - tensors.keys():
        if name.endswith(".resample_filter"):
            result[name] = resample_filter()
        elif name.endswith(".noise_strength"):
            result[name] = torch.zeros([])
        elif match := re.fullmatch(r"synthesis\.b(\d+)\.conv\d\.noise_const", name):
            result[name] = torch.zeros(int(match[1]), int(match[1]))
    return result


def _resolutions(tensors: Tensors, pattern: str) -> list[int]:
    found = sorted(int(match[1]) for name in tensors if (match := re.fullmatch(pattern, name)))
    if not found or found[-1] < 8:
        example = pattern.replace("\\", "").replace("(d+)", "8")
        raise ValueError(f"no StyleGAN2 network: there is no tensor such as {example}")
    return found


def _shape(tensors: Tensors, name: str, dims: int) -> list[int]:
    if name not in tensors:
        raise ValueError(f"no StyleGAN2 network of a known kind: {name} is missing")
    shape = list(tensors[name].shape)
    if len(shape) != dims:
        raise ValueError(f"{name}: expected {dims} dimensions, found {shape}")
    return shape


def _count(tensors: Tensors, pattern: str) -> int:
    return sum(bool(re.fullmatch(pattern, name)) for name in tensors)


def _skips(tensors: Tensors, skip_sign: str, resnet_sign: str) -> Skips:
    if skip_sign in tensors:
        return "skip"
    return "resnet" if resnet_sign in tensors else "orig"


def _base_and_max(widths: dict[int, int]) -> dict[str, Any]:
    """The smallest (base, max) with min(base // r, max) = width for every r.

    If any pair fits, then base = max r·width does: it is at most the true base, and its quotients
    are no smaller than the widths.
    """
    return {
        "channel_base": max(r * width for r, width in widths.items()),
        "channel_max": max(widths.values()),
    }

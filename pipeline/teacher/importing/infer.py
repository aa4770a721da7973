"""Tensors with the official StyleGAN2 names -> the architecture their shapes imply.

Names and shapes say everything but clamping, learning-rate multipliers, minibatch groups and
half-precision flags; those are given by whoever read the file. Neighbours: `stylegan2_ada.py`,
`stylegan2_tensorflow.py`, `stylegan2_states.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor

from pipeline.teacher.architectures.stylegan2 import (
    Skips,
    StyleGAN2Architecture,
    StyleGAN2DiscriminatorArchitecture,
)
from pipeline.teacher.networks.fir import resample_filter
from pipeline.teacher.spelling import Spelling

Tensors = Mapping[str, Tensor]
Arch = TypeVar("Arch", covariant=True)


class Converted(NamedTuple, Generic[Arch]):
    """A network of a file: what it is, its tensors by our names, and how the file has them."""

    arch: Arch
    tensors: Tensors
    spelling: Spelling


def infer_generator(tensors: Tensors, spelling: Spelling, **known: Any) -> StyleGAN2Architecture:
    """Architecture of the generator with these tensors; `known` are fields no shape tells.

    Raises:
        ValueError: if the tensors are not those of a StyleGAN2 generator, in `spelling`.
    """
    found = _Found(tensors, spelling)
    resolutions = found.resolutions("synthesis.b{}.conv1.weight")
    found.shape("synthesis.b4.const", 3)
    (w_dim,) = found.shape("mapping.w_avg", 1)
    num_classes, z_dim = 0, w_dim
    if "mapping.fc0.weight" in tensors:
        z_dim = found.shape("mapping.fc0.weight", 2)[1]
    if "mapping.embed.weight" in tensors:
        width, num_classes = found.shape("mapping.embed.weight", 2)
        z_dim -= width
    widths = {r: found.shape(f"synthesis.b{r}.conv1.weight", 4)[0] for r in resolutions}
    top = f"synthesis.b{resolutions[-1]}"
    return StyleGAN2Architecture(
        resolution=resolutions[-1],
        z_dim=z_dim,
        w_dim=w_dim,
        num_mapping_layers=_count(tensors, r"mapping\.fc\d+\.weight"),
        image_channels=found.shape(f"{top}.torgb.weight", 4)[0],
        num_classes=num_classes,
        skips=_skips(tensors, "synthesis.b4.torgb.weight", f"{top}.skip.weight"),
        **_base_and_max(widths),
        **known,
    )


def infer_discriminator(
    tensors: Tensors, spelling: Spelling, **known: Any
) -> StyleGAN2DiscriminatorArchitecture:
    """Architecture of the discriminator with these tensors; `known` are fields no shape tells.

    Raises:
        ValueError: if the tensors are not those of a StyleGAN2 discriminator, in `spelling`.
    """
    found = _Found(tensors, spelling)
    resolutions = found.resolutions("b{}.conv0.weight")
    widths = {r: found.shape(f"b{r}.conv0.weight", 4)[0] for r in resolutions}
    widths[4], in_width = found.shape("b4.conv.weight", 4)[:2]
    if in_width != widths[4] + 1:
        raise ValueError(
            f"{spelling.name('b4.conv.weight')}: {in_width - widths[4]} minibatch-deviation "
            "channels of the discriminator; 1 is supported"
        )
    num_classes, mapping_width = 0, None
    if "mapping.embed.weight" in tensors:
        mapping_width, num_classes = found.shape("mapping.embed.weight", 2)
    top = f"b{resolutions[-1]}"
    return StyleGAN2DiscriminatorArchitecture(
        resolution=resolutions[-1],
        image_channels=found.shape(f"{top}.fromrgb.weight", 4)[1],
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


class _Found(NamedTuple):
    """Tensors of a file, and how it has them."""

    tensors: Tensors
    spelling: Spelling

    def resolutions(self, name: str) -> list[int]:
        """Those in the place `{}` of the tensors called `name`."""
        pattern = re.escape(name).replace(r"\{\}", r"(\d+)")
        found = sorted(int(m[1]) for key in self.tensors if (m := re.fullmatch(pattern, key)))
        if not found or found[-1] < 8:
            example = self.spelling.name(name.format(8))
            raise ValueError(f"no StyleGAN2 network: there is no tensor such as {example}")
        return found

    def shape(self, name: str, num_dims: int) -> list[int]:
        """Of a tensor that has to be there, with so many dimensions."""
        if name not in self.tensors:
            raise ValueError(
                f"no StyleGAN2 network of a known kind: {self.spelling.name(name)} is missing"
            )
        shape = list(self.tensors[name].shape)
        if len(shape) != num_dims:
            raise ValueError(
                f"{self.spelling.name(name)}: expected {num_dims} dimensions, found {shape}"
            )
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

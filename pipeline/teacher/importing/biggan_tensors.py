"""Tensors of BigGAN-PyTorch's networks -> architectures and the tensors of a teacher.

Neighbour: `biggan.py` finds them in files.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import TypeVar

import torch.nn.functional as F
from torch import Tensor

from pipeline.teacher.architectures.biggan import (
    BigGANArchitecture,
    BigGANDiscriminatorArchitecture,
)
from pipeline.teacher.importing.infer import Converted
from pipeline.teacher.spelling import Spelling

Arch = TypeVar("Arch")
PREFIX = "network."
"""Of the names of a teacher's weights, which are those of the file otherwise."""
_STATISTICS = re.compile(r"(bn\.)?(stored|running)_(mean|var)$")
_PASSED_OVER = re.compile(r"\.(u\d+|sv\d+|num_batches_tracked|accumulation_counter)$")
"""What is no weight: vectors and logs of spectral normalisation, counters."""


def convert_generator(
    tensors: Mapping[str, Tensor], spelling: Spelling, sn_eps: float, bn_eps: float
) -> Converted[BigGANArchitecture]:
    """The generator with these tensors, named as in the file, and options that no shape tells.

    Raises:
        ValueError: if they are no generator of this layout, in `spelling`.
    """
    found = _Network(tensors, spelling, sn_eps)
    if "blocks.0.0.conv3.weight" in found.tensors:
        raise ValueError("BigGAN-PyTorch's BigGAN-deep (model BigGANdeep) is not supported")
    first = found.shape("linear.weight", 2)
    widths = found.widths()
    side = math.isqrt(first[0] // widths[0])
    gain = found.shape("blocks.0.0.bn1.gain.weight", 2)
    num_classes, shared_dim = gain[0], 0
    if "shared.weight" in found.tensors:
        num_classes, shared_dim = found.shape("shared.weight", 2)
    is_hierarchical = bool(shared_dim) and gain[1] != shared_dim
    arch = BigGANArchitecture(
        z_dim=first[1] * (len(widths) if is_hierarchical else 1),
        num_classes=num_classes,
        widths=tuple(widths),
        attention=found.attention,
        shared_dim=shared_dim,
        is_hierarchical=is_hierarchical,
        bn_eps=bn_eps,
        first_side=side,
        image_channels=found.shape("output_layer.2.weight", 4)[0],
    )
    embeddings = r"shared\.weight" if shared_dim else r"blocks\.\d+\.0\.bn\d\.(gain|bias)\.weight"
    return found.convert(arch, embeddings)


def convert_discriminator(
    tensors: Mapping[str, Tensor], spelling: Spelling, sn_eps: float, resolution: int
) -> Converted[BigGANDiscriminatorArchitecture]:
    """The discriminator with these tensors, of images of that `resolution`; as
    `convert_generator`.

    The last block does not halve the side, and at 32 px the last but one neither; such a block has
    a shortcut only where its channels change.
    """
    found = _Network(tensors, spelling, sn_eps)
    channels, *widths = found.widths("conv2")
    hidden = found.widths("conv1")[1:]
    halving = [
        f"blocks.{index}.0.conv_sc.weight" in found.tensors
        and (index < len(widths) - 1 or [channels, *widths][index] == widths[index])
        for index in range(len(widths))
    ]
    arch = BigGANDiscriminatorArchitecture(
        resolution=resolution,
        widths=tuple(widths),
        num_halvings=halving.index(False) if False in halving else len(halving),
        num_classes=found.shape("embed.weight", 2)[0],
        attention=found.attention,
        is_wide=hidden == widths,
        image_channels=channels,
    )
    return found.convert(arch, r"embed\.weight")


class _Network:
    """Tensors of a network by our names, divided by their spectral norms."""

    def __init__(self, tensors: Mapping[str, Tensor], spelling: Spelling, sn_eps: float) -> None:
        names = {
            _STATISTICS.sub(r"stored_\3", name): name
            for name in tensors
            if not _PASSED_OVER.search(name)
        }
        self.spelling = Spelling(lambda ours: spelling.name(names.get(ours, ours)))
        self.tensors: dict[str, Tensor] = {}
        for ours, name in names.items():
            vector = tensors.get(f"{ours.removesuffix('.weight')}.u0")
            if vector is None:
                self.tensors[ours] = tensors[name]
            else:
                self.tensors[ours] = self._divide(ours, tensors[name], vector, sn_eps)

    def _divide(self, name: str, weight: Tensor, vector: Tensor, eps: float) -> Tensor:
        """`weight` by its spectral norm: one step of the power method from the stored `vector`,
        which the reference takes in evaluation, too (Miyato et al. 2018, algorithm 1).
        """
        rows = len(weight) if weight.dim() > 1 else 0
        if not weight.numel() or vector.numel() != rows:
            raise ValueError(
                f"{self.spelling.name(name)} is {list(weight.shape)}, but its u0 has "
                f"{vector.numel()} numbers"
            )
        matrix = weight.flatten(1).double()
        right = F.normalize(vector.double().flatten() @ matrix, dim=0, eps=eps)
        left = F.normalize(matrix @ right, dim=0, eps=eps)
        norm = left @ matrix @ right
        if norm == 0:
            raise ValueError(f"{self.spelling.name(name)}: its spectral norm is zero")
        return (weight / norm).to(weight.dtype)

    def shape(self, name: str, num_dims: int) -> list[int]:
        """Of a tensor that has to be there, with so many dimensions."""
        tensor = self.tensors.get(name)
        if tensor is None or tensor.dim() != num_dims or not tensor.numel():
            found = "none" if tensor is None else f"{list(tensor.shape)}"
            raise ValueError(
                f"{self.spelling.name(name)}: expected a tensor of {num_dims} dimensions, found "
                f"{found}"
            )
        return list(tensor.shape)

    def widths(self, conv: str = "conv1") -> list[int]:
        """Channels of the first map, and behind the convolution `conv` of each block."""
        found = [self.shape("blocks.0.0.conv1.weight", 4)[1]]
        while (name := f"blocks.{len(found) - 1}.0.{conv}.weight") in self.tensors:
            found.append(self.shape(name, 4)[0])
        return found

    @property
    def attention(self) -> tuple[int, ...]:
        """Blocks that attention follows."""
        matches = (re.fullmatch(r"blocks\.(\d+)\.1\.gamma", name) for name in self.tensors)
        return tuple(sorted(int(match[1]) for match in matches if match))

    def convert(self, arch: Arch, embeddings: str) -> Converted[Arch]:
        """As `network` of a teacher; `embeddings` match tensors that are linear maps there."""
        is_embedding = re.compile(embeddings).fullmatch
        tensors = {
            f"{PREFIX}{name}": tensor.T.contiguous() if is_embedding(name) else tensor
            for name, tensor in self.tensors.items()
        }

        def name_in_file(name: str) -> str:
            return self.spelling.name(name.removeprefix(PREFIX))

        def shape_in_file(name: str, shape: Sequence[int]) -> list[int]:
            is_turned = is_embedding(name.removeprefix(PREFIX))
            return list(reversed(shape)) if is_turned else list(shape)

        return Converted(arch, tensors, Spelling(name_in_file, shape_in_file))

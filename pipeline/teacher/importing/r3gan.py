"""A checkpoint of brownvc/R3GAN -> architecture and tensors.

The layout is a dictionary of plain pickled modules `G`, `D`, `G_ema`, whose network is `Model`.
Shapes say all but which stages are bfloat16's, which is an attribute of theirs: a state dict alone
is enough for float32.
"""

from __future__ import annotations

import re
from typing import Any

import torch

from pipeline.teacher.architectures.r3gan import (
    R3GANArchitecture,
    R3GANDiscriminatorArchitecture,
    R3GANStage,
)
from pipeline.teacher.importing.imported import Imported
from pipeline.teacher.importing.infer import Converted
from pipeline.teacher.importing.source import Source
from pipeline.teacher.importing.states import StateDict, find_network
from pipeline.teacher.spelling import Spelling

_GENERATOR_SIGN = "MainLayers.0.Layers.0.Basis"
_DISCRIMINATOR_SIGN = "ExtractionLayer.Layer.weight"
_OURS = "Model."


def recognises(source: Source) -> bool:
    """Whether the file has a generator of these."""
    return find_network(source.states, _GENERATOR_SIGN) is not None


def convert(source: Source) -> Imported:
    """Generator and, where there is one, discriminator.

    Raises:
        ValueError: if tensors of an R3GAN are missing.
    """
    found = find_network(source.states, _GENERATOR_SIGN)
    assert found is not None
    judge = find_network(source.states, _DISCRIMINATOR_SIGN)
    return Imported(
        "R3GAN",
        _convert_generator(found, source),
        None if judge is None else _convert_discriminator(judge, source),
        notes=tuple(found.notes),
        weights=found.key,
        is_averaged=found.is_averaged,
    )


def _convert_generator(found: StateDict, source: Source) -> Converted[R3GANArchitecture]:
    shapes = _Shapes(found)
    _, in_features = shapes.of("MainLayers.0.Layers.0.LinearLayer.weight", 2)
    embedding_width, num_classes = shapes.embedding()
    arch = R3GANArchitecture(
        z_dim=in_features - embedding_width,
        stages=_stages(shapes, found, source),
        image_channels=shapes.of("AggregationLayer.Layer.weight", 4)[0],
        num_classes=num_classes,
        embedding_width=embedding_width,
    )
    return _converted(arch, found)


def _convert_discriminator(
    found: StateDict, source: Source
) -> Converted[R3GANDiscriminatorArchitecture]:
    shapes = _Shapes(found)
    embedding_width, num_classes = shapes.embedding()
    arch = R3GANDiscriminatorArchitecture(
        stages=_stages(shapes, found, source),
        image_channels=shapes.of("ExtractionLayer.Layer.weight", 4)[1],
        num_classes=num_classes,
        embedding_width=embedding_width,
    )
    return _converted(arch, found)


def _converted(arch: Any, state: StateDict) -> Converted[Any]:
    tensors = {f"{_OURS}{name}": tensor for name, tensor in state.load().items()}
    spelling = Spelling(lambda name: state.spelling.name(name.removeprefix(_OURS)))
    return Converted(arch, tensors, spelling)


class _Shapes:
    """Shapes of the tensors of a network, in the file's names for messages."""

    def __init__(self, state: StateDict) -> None:
        self._shapes = state.shapes
        self._spelling = state.spelling

    def of(self, name: str, num_dims: int) -> tuple[int, ...]:
        """Of a tensor that has to be there, with so many dimensions."""
        shape = self._shapes.get(name)
        if shape is None or len(shape) != num_dims:
            found = "is missing" if shape is None else f"is {list(shape)}"
            raise ValueError(f"no R3GAN of a known kind: {self._spelling.name(name)} {found}")
        return shape

    def embedding(self) -> tuple[int, ...]:
        """Width of the classes' embedding, and their number; zeros where there are none."""
        name = "EmbeddingLayer.weight"
        return self.of(name, 2) if name in self._shapes else (0, 0)

    def blocks(self) -> dict[int, list[str]]:
        """Names of the residual blocks of every stage."""
        pattern = r"(MainLayers\.(\d+)\.Layers\.\d+)\.LinearLayer1\.Layer\.weight"
        found: dict[int, list[str]] = {}
        for name in self._shapes:
            if match := re.fullmatch(pattern, name):
                found.setdefault(int(match[2]), []).append(match[1])
        return dict(sorted(found.items()))


def _stages(shapes: _Shapes, found: StateDict, source: Source) -> tuple[R3GANStage, ...]:
    """All stages in order; a gap shows as tensors that do not fit."""
    stages = []
    for index, blocks in shapes.blocks().items():
        hidden, width, _, _ = shapes.of(f"{blocks[0]}.LinearLayer1.Layer.weight", 4)
        _, per_group, kernel, _ = shapes.of(f"{blocks[0]}.LinearLayer2.Layer.weight", 4)
        tree = source.trees.get(found.place)
        place = f"{found.prefix}MainLayers.{index}"
        dtype = None if tree is None else tree.state(place).get("DataType")
        stages.append(
            R3GANStage(
                num_channels=width,
                num_blocks=len(blocks),
                num_hidden=hidden,
                num_groups=hidden // max(per_group, 1),
                kernel=kernel,
                is_half=dtype == torch.bfloat16,
            )
        )
    return tuple(stages)

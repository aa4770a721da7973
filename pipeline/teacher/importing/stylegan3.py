"""A StyleGAN3 pickle of NVIDIA's, or the stem of a StyleGAN-XL -> architecture and tensors.

The layout is a dictionary of persistent modules `G`, `D`, `G_ema`, as StyleGAN2-ADA's; each
layer's state says how it resamples. Of a state dict alone, names and filters say that, and the rest
is taken to be as the authors train. StyleGAN-XL is told by embeddings that have no bias.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pipeline.teacher.architectures.stylegan2 import StyleGAN2DiscriminatorArchitecture
from pipeline.teacher.architectures.stylegan3 import (
    StyleGAN3Architecture,
    StyleGAN3Input,
    StyleGAN3Layer,
)
from pipeline.teacher.importing import stylegan2_ada
from pipeline.teacher.importing.imported import Imported
from pipeline.teacher.importing.infer import Converted, infer_discriminator
from pipeline.teacher.importing.module_tree import ModuleTree
from pipeline.teacher.importing.source import Source
from pipeline.teacher.importing.states import StateDict, find_network
from pipeline.teacher.importing.stored_tensors import Stored

_SIGN = "synthesis.input.freqs"
_DISCRIMINATOR_SIGN = "b4.fc.weight"
_USUAL_TAPS = 6
_USUAL_MARGIN = 10
_USUAL_CLAMP = 256.0
_USUAL_BANDWIDTH = 2.0
_UNUSED = ("mapping.embed.", "mapping.embed_proj.")
"""StyleGAN-XL has these also where it has no classes."""


def recognises(source: Source) -> bool:
    """Whether the file has a generator of these."""
    return find_network(source.states, _SIGN) is not None


def convert(source: Source) -> Imported:
    """Generator and, where there is a StyleGAN2's, discriminator; raises as `convert_generator`."""
    found = find_network(source.states, _SIGN)
    assert found is not None
    tree = _tree(found, source)
    generator = convert_generator(found, tree)
    judge = _convert_discriminator(source)
    notes = found.notes
    if tree is None:
        notes.append(
            "a state dict does not say how it is clamped, scaled and band-limited: it is taken to "
            "be as the authors train"
        )
    if judge is None and any(name.rpartition(".")[2] == "D" for name in source.trees):
        notes.append(stylegan2_ada.JUDGES_FEATURES)
    return Imported(
        "StyleGAN-XL stem" if _has_fixed_embeddings(found) else "StyleGAN3",
        generator,
        judge,
        notes=tuple(notes),
        weights=found.key,
        is_averaged=found.is_averaged,
    )


def _tree(state: StateDict, source: Source) -> ModuleTree | None:
    """The modules that hold it, where the file has those."""
    return None if state.prefix else source.trees.get(state.place)


def _convert_discriminator(source: Source) -> Converted[StyleGAN2DiscriminatorArchitecture] | None:
    """The StyleGAN2 discriminator of the file, if it has one."""
    found = find_network(source.states, _DISCRIMINATOR_SIGN)
    if found is None:
        return None
    if (tree := _tree(found, source)) is not None:
        return stylegan2_ada.convert_discriminator(tree)
    tensors, spelling = found.load(), found.spelling
    arch = infer_discriminator(tensors, spelling, conv_clamp=_USUAL_CLAMP, mbstd_group_size=4)
    return Converted(arch, tensors, spelling)


def convert_generator(
    state: StateDict, tree: ModuleTree | None
) -> Converted[StyleGAN3Architecture]:
    """The generator with these tensors, and the modules they are in where the file has those.

    Raises:
        ValueError: if tensors are missing, or it has a part that is not supported.
    """
    if tree is not None:
        stylegan2_ada.check_activations(tree)
        if any("head_layer_names" in module.state for module in tree.modules.values()):
            raise ValueError(
                f"{tree.place}: super-resolution stages of StyleGAN-XL are not supported; import "
                "the stem that they were trained on"
            )
    shapes = _Shapes(state)
    w_avg = shapes.of("mapping.w_avg")
    has_class_means = len(w_avg) == 2
    entries = state.entries
    if _has_fixed_embeddings(state) and not has_class_means:
        entries = {n: e for n, e in entries.items() if not n.startswith(_UNUSED)}
    layers = _layers(shapes, tree)
    lr_mult = 0.01 if tree is None else stylegan2_ada.mapping_lr_mult(tree)
    z_dim = shapes.of("mapping.fc0.weight", 2)[1]
    num_classes = class_width = 0
    if has_class_means:
        num_classes = w_avg[0]
        num_embeddings, class_width = shapes.of("mapping.embed.weight", 2)
        if num_embeddings < num_classes:
            raise ValueError(
                f"{state.spelling.name('mapping.embed.weight')} has {num_embeddings} rows for "
                f"{num_classes} classes"
            )
        z_dim //= 2
    elif "mapping.embed.weight" in entries:
        width, num_classes = shapes.of("mapping.embed.weight", 2)
        z_dim -= width
    arch = StyleGAN3Architecture(
        z_dim=z_dim,
        w_dim=w_avg[-1],
        num_mapping_layers=sum(bool(re.fullmatch(r"mapping\.fc\d+\.weight", n)) for n in entries),
        input=_input(shapes, tree, layers[0]),
        layers=layers,
        num_classes=num_classes,
        class_width=class_width,
        mapping_lr_mult=lr_mult,
        output_scale=_number(_attributes(tree, "synthesis"), "output_scale", 0.25),
    )
    kept = StateDict(state.place, state.prefix, entries)
    tensors = kept.load()
    if has_class_means:  # those of ImageNet, of which a data set with fewer classes uses the first
        tensors["mapping.embed.weight"] = tensors["mapping.embed.weight"][:num_classes].clone()
    return Converted(arch, tensors, kept.spelling)


def _has_fixed_embeddings(state: StateDict) -> bool:
    names = state.entries
    return "mapping.embed.weight" in names and "mapping.embed.bias" not in names


class _Shapes:
    """Shapes of the tensors of a network, in the file's names for messages."""

    def __init__(self, state: StateDict) -> None:
        self.names = list(state.entries)
        self._shapes = state.shapes
        self._spelling = state.spelling

    def of(self, name: str, num_dims: int | None = None) -> tuple[int, ...]:
        """Of a tensor that has to be there, with so many dimensions."""
        shape = self._shapes.get(name)
        if not shape or (num_dims is not None and len(shape) != num_dims):
            found = "is missing" if shape is None else f"is {list(shape)}"
            raise ValueError(f"no StyleGAN3 of a known kind: {self._spelling.name(name)} {found}")
        return shape

    def filter(self, name: str) -> tuple[int, ...]:
        """Of a filter; a single tap is not stored."""
        return self._shapes.get(name) or (1,)


def _layers(shapes: _Shapes, tree: ModuleTree | None) -> tuple[StyleGAN3Layer, ...]:
    pattern = r"synthesis\.(L(\d+)_(\d+)_\d+)\.weight"
    found = [match for name in shapes.names if (match := re.fullmatch(pattern, name))]
    layers: list[StyleGAN3Layer] = []
    for match in sorted(found, key=lambda match: int(match[2])):
        name, size = f"synthesis.{match[1]}", int(match[3])
        before = layers[-1].size if layers else size
        layers.append(_layer(name, shapes, _attributes(tree, name), (before, size)))
    if not layers:
        shapes.of("synthesis.L0_36_512.weight")  # says that it is missing
    return tuple(layers)


def _layer(
    name: str, shapes: _Shapes, said: Mapping[str, Any], sizes: tuple[int, int]
) -> StyleGAN3Layer:
    """What the attributes `said` and the tensors of the layer `name` say; `sizes` are the sides of
    its input and output.
    """
    num_channels, _, kernel, _ = shapes.of(f"{name}.weight", 4)
    (up_taps, *_), down = shapes.filter(f"{name}.up_filter"), shapes.filter(f"{name}.down_filter")
    in_size, size = sizes
    up = int(_number(said, "up_factor", max(1, up_taps // _USUAL_TAPS)))
    lowered = int(_number(said, "down_factor", max(1, down[0] // _USUAL_TAPS)))
    total = (size - 1) * lowered + 1 - (in_size + kernel - 1) * up + up_taps + down[0] - 2
    usual = [(total + up) // 2, total - (total + up) // 2] * 2
    padding = said.get("padding", usual)
    is_whole = isinstance(padding, (list, tuple)) and all(type(n) is int for n in padding)
    if not is_whole or len(padding) != 4 or padding[:2] != padding[2:]:
        raise ValueError(f"{name}.padding: not two whole numbers, the same on both axes")
    has_clamp = said.get("conv_clamp", _USUAL_CLAMP) is not None
    return StyleGAN3Layer(
        num_channels=num_channels,
        size=_side(said.get("out_size", size), f"{name}.out_size"),
        kernel=kernel,
        up=up,
        up_taps=up_taps,
        down=lowered,
        down_taps=down[0],
        padding=(padding[0], padding[1]),
        is_radial=len(down) == 2,
        conv_clamp=_number(said, "conv_clamp", _USUAL_CLAMP) if has_clamp else None,
        is_half=bool(said.get("use_fp16", False)),
    )


def _input(shapes: _Shapes, tree: ModuleTree | None, first: StyleGAN3Layer) -> StyleGAN3Input:
    said = _attributes(tree, "synthesis.input")
    return StyleGAN3Input(
        num_channels=shapes.of("synthesis.input.freqs", 2)[0],
        size=_side(said.get("size", first.size), "synthesis.input.size"),
        sampling_rate=_number(said, "sampling_rate", first.size - 2 * _USUAL_MARGIN),
        bandwidth=_number(said, "bandwidth", _USUAL_BANDWIDTH),
    )


def _attributes(tree: ModuleTree | None, name: str) -> Mapping[str, Any]:
    return {} if tree is None else tree.state(name)


def _number(said: Mapping[str, Any], name: str, usual: float) -> float:
    """The attribute `name`, or what is usual."""
    value = said.get(name, usual)
    if not isinstance(value, (int, float)) or not abs(value) < 2**31:
        raise ValueError(f"{name}: no number, or out of range")
    return float(value)


def _side(value: Any, place: str) -> int:
    """The side of a square that is stored as one number or two."""
    numbers = value.to_tensor().flatten().tolist() if isinstance(value, Stored) else value
    sides = set(numbers) if isinstance(numbers, (list, tuple)) else {numbers}
    if len(sides) != 1 or not all(type(side) is int for side in sides):
        raise ValueError(f"{place}: not the side of a square")
    return int(sides.pop())

"""A StyleGAN2-ADA PyTorch pickle, also by the StyleGAN3 code -> architecture and tensors.

The layout is a dictionary of persistent modules `G`, `D`, `G_ema`; each has a state with
`_parameters`, `_buffers` and `_modules`, and attributes that say what no tensor does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.teacher.architectures.stylegan2 import (
    StyleGAN2Architecture,
    StyleGAN2DiscriminatorArchitecture,
)
from pipeline.teacher.importing.imported import Imported
from pipeline.teacher.importing.infer import Converted, infer_discriminator, infer_generator
from pipeline.teacher.importing.module_tree import ModuleTree
from pipeline.teacher.importing.source import Source

JUDGES_FEATURES = "its discriminator judges features of other networks, and is left out"
"""As those of Projected GAN (Sauer et al. 2021), whose StyleGAN2 is NVIDIA's."""

States = Mapping[str, Mapping[str, Any]]
"""Attributes of every submodule, by its dotted name."""


def recognises(source: Source) -> bool:
    """Whether the file has the layout of these pickles."""
    tree = source.trees.get("G_ema")
    return tree is not None and "synthesis.b4" in tree.modules


def convert(source: Source) -> Imported:
    """The networks `G_ema` and `D`; raises as `convert_generator`."""
    judge = source.trees.get("D")
    notes: list[str] = []
    if judge is not None and "b4" not in judge.modules:
        judge = None
        notes.append(JUDGES_FEATURES)
    return Imported(
        "StyleGAN2-ADA PyTorch pickle",
        convert_generator(source.trees["G_ema"]),
        None if judge is None else convert_discriminator(judge),
        notes=tuple(notes),
        weights="G_ema",
        is_averaged=True,
    )


def convert_generator(tree: ModuleTree) -> Converted[StyleGAN2Architecture]:
    """The generator that `tree` is.

    Raises:
        ValueError: if it is no StyleGAN2 generator, or has a part that is not supported.
    """
    states, spelling = _states(tree), tree.weights.spelling
    check_activations(tree)
    tensors = tree.weights.load()
    layers = [name for name in states if name.endswith((".conv0", ".conv1", ".torgb"))]
    arch = infer_generator(
        tensors,
        spelling,
        conv_clamp=_shared(states, layers, "conv_clamp"),
        mapping_lr_mult=mapping_lr_mult(tree),
        num_half_blocks=_num_half_blocks(states),
    )
    return Converted(arch, tensors, spelling)


def convert_discriminator(tree: ModuleTree) -> Converted[StyleGAN2DiscriminatorArchitecture]:
    """The discriminator that `tree` is; raises as `convert_generator` does."""
    states, spelling = _states(tree), tree.weights.spelling
    check_activations(tree)
    tensors = tree.weights.load()
    layers = [name for name in states if name.endswith((".conv0", ".conv1", "b4.conv"))]
    group = states.get("b4.mbstd", {}).get("group_size", 4)
    arch = infer_discriminator(
        tensors,
        spelling,
        conv_clamp=_shared(states, layers, "conv_clamp"),
        mbstd_group_size=None if group is None else int(group),
        num_half_blocks=_num_half_blocks(states),
        mapping_lr_mult=mapping_lr_mult(tree),
    )
    return Converted(arch, tensors, spelling)


def _states(tree: ModuleTree) -> States:
    return {name: module.state for name, module in tree.modules.items()}


def check_activations(tree: ModuleTree) -> None:
    """Raise ValueError for another activation than leaky ReLU."""
    for name in tree.modules:
        activation = tree.state(name).get("activation", "linear")
        if activation not in ("lrelu", "linear"):
            place = tree.weights.spelling.name(name)
            raise ValueError(f"{place}: activation {activation!r}; only lrelu is supported")


def _shared(states: States, names: list[str], attribute: str) -> float | None:
    """The value that all of `names` have for `attribute`."""
    values = {states[name].get(attribute) for name in names}
    if len(values) > 1:
        raise ValueError(f"{attribute} differs between layers: {sorted(map(str, values))}")
    value = values.pop() if values else None
    return None if value is None else float(value)


def mapping_lr_mult(tree: ModuleTree) -> float:
    """Factor of the learning rate, and so of the weights, of the mapping's layers."""
    state = tree.state("mapping.fc0")
    arguments = state.get("_init_kwargs") or {}
    return float(state.get("bias_gain", arguments.get("lr_multiplier", 0.01)))


def _num_half_blocks(states: States) -> int:
    return sum(bool(state.get("use_fp16")) for state in states.values())

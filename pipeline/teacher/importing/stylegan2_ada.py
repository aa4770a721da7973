"""What `safe_pickle.py` read from a StyleGAN2-ADA PyTorch pickle -> architecture and tensors.

The layout is a dictionary of persistent modules `G`, `D`, `G_ema`; each has a state with
`_parameters`, `_buffers` and `_modules`, and attributes that say what no tensor does.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor

from pipeline.teacher.architectures.stylegan2 import (
    StyleGAN2Architecture,
    StyleGAN2DiscriminatorArchitecture,
)
from pipeline.teacher.importing.infer import Converted, infer_discriminator, infer_generator
from pipeline.teacher.importing.safe_pickle import PersistentModule
from pipeline.teacher.importing.stored_tensors import StoredArray, StoredTensor, WeightBudget
from pipeline.teacher.spelling import Spelling

MAX_MODULES = 10_000
MAX_DEPTH = 16


def is_official(content: Any) -> bool:
    """Whether `content` has the layout of these pickles."""
    return isinstance(content, dict) and isinstance(content.get("G_ema"), PersistentModule)


def convert_generator(module: PersistentModule) -> Converted[StyleGAN2Architecture]:
    """The module `G_ema`.

    Raises:
        ValueError: if it is no StyleGAN2 generator, or has a part that is not supported.
    """
    spelling = Spelling.under("G_ema.")
    states = _states(module, spelling)
    _check_activations(states, spelling)
    tensors = _tensors(states, spelling)
    layers = [name for name in states if name.endswith((".conv0", ".conv1", ".torgb"))]
    arch = infer_generator(
        tensors,
        spelling,
        conv_clamp=_shared(states, layers, "conv_clamp"),
        mapping_lr_mult=_mapping_lr_mult(states),
        num_half_blocks=_num_half_blocks(states),
    )
    return Converted(arch, tensors, spelling)


def convert_discriminator(
    module: PersistentModule,
) -> Converted[StyleGAN2DiscriminatorArchitecture]:
    """The module `D`; raises as `convert_generator` does."""
    spelling = Spelling.under("D.")
    states = _states(module, spelling)
    _check_activations(states, spelling)
    tensors = _tensors(states, spelling)
    layers = [name for name in states if name.endswith((".conv0", ".conv1", "b4.conv"))]
    group = states.get("b4.mbstd", {}).get("group_size", 4)
    arch = infer_discriminator(
        tensors,
        spelling,
        conv_clamp=_shared(states, layers, "conv_clamp"),
        mbstd_group_size=None if group is None else int(group),
        num_half_blocks=_num_half_blocks(states),
        mapping_lr_mult=_mapping_lr_mult(states),
    )
    return Converted(arch, tensors, spelling)


def _states(module: PersistentModule, spelling: Spelling) -> dict[str, dict[str, Any]]:
    """State of every submodule by its dotted name, "" for the network itself."""
    found: dict[str, dict[str, Any]] = {}

    def walk(state: Any, prefix: str, depth: int) -> None:
        if not isinstance(state, dict) or depth > MAX_DEPTH or len(found) > MAX_MODULES:
            raise ValueError(f"{spelling.name(prefix).rstrip('.')}: no module of a StyleGAN2")
        found[prefix] = state
        for name, child in _children(state, prefix, spelling):
            walk(child.state, f"{prefix}.{name}".lstrip("."), depth + 1)

    walk(module.state, "", 0)
    return found


def _children(
    state: dict[str, Any], prefix: str, spelling: Spelling
) -> Iterator[tuple[str, PersistentModule]]:
    modules = state.get("_modules") or {}
    if not isinstance(modules, dict):
        place = spelling.name(f"{prefix}._modules".lstrip("."))
        raise ValueError(f"{place}: not a dictionary")
    for name, child in modules.items():
        if child is None:
            continue
        if not isinstance(child, PersistentModule):
            place = spelling.name(f"{prefix}.{name}".lstrip("."))
            raise ValueError(f"{place}: not a module of the official code")
        yield str(name), child


def _tensors(states: dict[str, dict[str, Any]], spelling: Spelling) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    budget = WeightBudget()
    for prefix, state in states.items():
        for kind in ("_parameters", "_buffers"):
            entries = state.get(kind) or {}
            if not isinstance(entries, dict):
                place = spelling.name(f"{prefix}.{kind}".lstrip("."))
                raise ValueError(f"{place}: not a dictionary")
            for name, value in entries.items():
                if value is None:
                    continue
                full_name = f"{prefix}.{name}".lstrip(".")
                if not isinstance(value, (StoredTensor, StoredArray)):
                    raise ValueError(f"{spelling.name(full_name)}: not a tensor")
                tensors[full_name] = budget.load(value)
    return tensors


def _check_activations(states: dict[str, dict[str, Any]], spelling: Spelling) -> None:
    """Only leaky ReLU, and no activation where StyleGAN2 has none."""
    for name, state in states.items():
        activation = state.get("activation", "linear")
        if activation not in ("lrelu", "linear"):
            raise ValueError(
                f"{spelling.name(name)}: activation {activation!r}; only lrelu is supported"
            )


def _shared(states: dict[str, dict[str, Any]], names: list[str], attribute: str) -> float | None:
    """The value that all of `names` have for `attribute`."""
    values = {states[name].get(attribute) for name in names}
    if len(values) > 1:
        raise ValueError(f"{attribute} differs between layers: {sorted(map(str, values))}")
    value = values.pop() if values else None
    return None if value is None else float(value)


def _mapping_lr_mult(states: dict[str, dict[str, Any]]) -> float:
    state = states.get("mapping.fc0", {})
    arguments = state.get("_init_kwargs") or {}
    return float(state.get("bias_gain", arguments.get("lr_multiplier", 0.01)))


def _num_half_blocks(states: dict[str, dict[str, Any]]) -> int:
    return sum(bool(state.get("use_fp16")) for state in states.values())

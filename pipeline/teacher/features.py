"""Features of a generator by the names of its submodules, and their pooling (Yang et al. 2022,
Eq. 4).

Forward hooks take a submodule's output (the first part, where it returns several), so any layer of
any family is a feature without its help.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from pipeline.teacher.description import FeatureInfo
from pipeline.teacher.interface import TeacherGenerator
from shards.schema import W


@contextmanager
def captured(root: nn.Module, names: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """Within the block, the outputs [B, …] of the submodules `names` of `root`, filled in as they
    run.

    Raises:
        AttributeError: for a name that is no submodule.
    """
    found, handles = capture(root, names)
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def capture(
    root: nn.Module, names: Sequence[str]
) -> tuple[dict[str, Tensor], list[RemovableHandle]]:
    """As `captured`, until the handles are removed."""
    found: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            first = output[0] if isinstance(output, tuple) else output
            if isinstance(first, Tensor):
                found[name] = first

        return hook

    modules = {name: root.get_submodule(name) for name in names}  # all are there, or no hook is
    return found, [module.register_forward_hook(keep(name)) for name, module in modules.items()]


def pool(feature: Tensor) -> Tensor:
    """μ(h): the spatial mean, [B, C, r, r] -> [B, C] float32; [B, C] stays as it is."""
    return feature.float().mean((2, 3)) if feature.dim() == 4 else feature.float()


def pool_features(features: Mapping[str, Tensor]) -> Tensor:
    """h^g = [μ(h_1), …, μ(h_L)]: the spatial mean of every feature, [B, C_l, r_l, r_l] or [B, C_l]
    for `w`, end to end: [B, Σ C_l] float32.
    """
    return torch.cat([pool(feature) for feature in features.values()], 1)


@torch.no_grad()
def list_features(generator: TeacherGenerator) -> tuple[FeatureInfo, ...]:
    """Every submodule that makes a map [B, C, r, r], with its size, found by rendering one latent.

    Raises:
        ValueError: if a block of the generator makes none.
    """
    root = generator.feature_root
    blocks = generator.blocks
    names = [
        name
        for name, _ in root.named_modules()
        if name and not any(block.startswith(f"{name}.") for block in blocks)
    ]
    arch, device = generator.arch, next(generator.parameters()).device
    z = torch.zeros(1, arch.z_dim, device=device)
    labels = torch.zeros(1, arch.num_classes, device=device) if arch.num_classes else None
    with captured(root, names) as found:
        generator(z, labels=labels)
    for name in blocks:
        if name not in found or found[name].dim() != 4:
            raise ValueError(f"block {name!r} makes no map [B, C, r, r]")
    maps = {name: found[name] for name in names if name in found and found[name].dim() == 4}
    ordered = [*blocks, *(name for name in maps if name not in blocks)]
    return tuple(
        FeatureInfo(name, maps[name].shape[1], maps[name].shape[2], name in blocks)
        for name in ordered
    )


def select(features: Mapping[str, Tensor], ws: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
    """The features `names` of a batch in that order, `w` (the first of `ws`) among them."""
    return {name: ws[:, 0] if name == W else features[name] for name in names}

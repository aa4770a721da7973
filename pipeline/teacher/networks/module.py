"""One's own `torch.nn.Module` as a teacher.

The weights and sizes are in the teacher's folder like any other's; the code is named by the config
(`teacher.factory: package.module:callable`), never by a file that came from elsewhere.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.teacher.architectures.module import ModuleArchitecture
from pipeline.teacher.interface import UnmappedGenerator
from shards.errors import UserError
from shards.schema import W


class ModuleGenerator(UnmappedGenerator):
    """Wraps `module`: forward(z [B, z_dim] or [B, z_dim, 1, 1][, labels]) -> images [B, C, R, R] in
    [-1, 1].
    """

    def __init__(
        self, arch: ModuleArchitecture, module: nn.Module, z_shape: tuple[int, ...]
    ) -> None:
        super().__init__()
        self.arch = arch
        self.blocks = list(arch.blocks)
        self.module = module
        self.z_shape = z_shape
        """Of one latent as the module takes it."""

    @property
    def feature_root(self) -> nn.Module:
        """The module itself: features have the names its author gave."""
        return self.module

    def synthesise(self, z: Tensor, labels: Tensor | None) -> Tensor:
        """Images [B, C, R, R] as described.

        Raises:
            ValueError: if the module makes others.
        """
        z = z.reshape(len(z), *self.z_shape)
        image: Tensor = self.module(z) if labels is None else self.module(z, labels)
        side = self.arch.resolution
        if image.shape[1:] != (self.arch.image_channels, side, side):
            raise ValueError(
                f"the module made images {list(image.shape[1:])}, described were "
                f"{[self.arch.image_channels, side, side]}"
            )
        return image


def build_module(arch: ModuleArchitecture, factory: str | None) -> ModuleGenerator:
    """Import `factory` ("package.module:callable") and call it with the teacher's arguments.

    Raises:
        UserError: if the config names none, or it cannot be imported or called.
    """
    if factory is None:
        raise UserError(
            "teacher.factory: this teacher is a module in your own code; name what builds it "
            "as teacher.factory=package.module:callable"
        )
    package, _, name = factory.partition(":")
    try:
        module = getattr(importlib.import_module(package), name)(**arch.arguments)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise UserError(f"teacher.factory={factory}: {error}") from error
    if not isinstance(module, nn.Module):
        raise UserError(f"teacher.factory={factory}: made a {type(module).__name__}, no nn.Module")
    try:
        z_shape, _ = try_latent(module.eval(), arch.z_dim, arch.num_classes)
    except ValueError as error:
        raise UserError(f"teacher.factory={factory}: {error}") from error
    return ModuleGenerator(arch, module, z_shape)


@torch.no_grad()
def try_latent(module: nn.Module, z_dim: int, num_classes: int) -> tuple[tuple[int, ...], Tensor]:
    """The shape in which `module` takes a latent, (z_dim,) or, as most DCGANs do, (z_dim, 1, 1),
    and what it makes of one.

    Raises:
        ValueError: if it takes neither.
    """
    labels = [torch.zeros(1, num_classes)] if num_classes else []
    problems: list[str] = []
    for z_shape in ((z_dim,), (z_dim, 1, 1)):
        try:
            return z_shape, module(torch.zeros(1, *z_shape), *labels)
        except (RuntimeError, ValueError, TypeError, IndexError, AssertionError) as error:
            shape = ", ".join(map(str, ("B", *z_shape)))
            problems.append(f"[{shape}]: {' '.join(str(error).split())[:200]}")
    raise ValueError(
        f"the module takes no latents of {z_dim} numbers, as {'; as '.join(problems)}; wrap it in "
        "a module whose forward takes [B, z_dim]"
    )


@torch.no_grad()
def wrap_module(
    module: nn.Module,
    *,
    z_dim: int,
    blocks: Sequence[str],
    arguments: dict[str, Any] | None = None,
    num_classes: int = 0,
) -> ModuleGenerator:
    """`module` as a generator that `save_teacher` can write.

    Args:
        module: forward(z), or forward(z, labels [B, num_classes]) with classes, to images
            [B, C, R, R] in [-1, 1]; z is [B, z_dim] or, where the module takes no such latents,
            [B, z_dim, 1, 1]. It is put into evaluation mode.
        z_dim: width of the latent, drawn from N(0, I).
        blocks: names of the submodules whose outputs [B, C, r, r] are the block features, in order.
        arguments: JSON-able keyword arguments with which the factory makes the same module.
        num_classes: of a conditional generator.

    Raises:
        ValueError: if the module takes no such latents, or does not make square images.
    """
    if len(set(blocks)) < len(blocks) or W in blocks:
        raise ValueError(f"blocks: duplicate name, or one called {W!r}")
    z_shape, image = try_latent(module.eval(), z_dim, num_classes)
    if image.dim() != 4 or image.shape[2] != image.shape[3]:
        raise ValueError(f"the module must make images [B, C, R, R], made {list(image.shape)}")
    arch = ModuleArchitecture(
        resolution=image.shape[3],
        z_dim=z_dim,
        blocks=tuple(blocks),
        image_channels=image.shape[1],
        num_classes=num_classes,
        arguments=arguments or {},
    )
    return ModuleGenerator(arch, module, z_shape)

"""What is known of somebody's own module. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from pydantic import ConfigDict

from pipeline.teacher.architectures.sizes import check_sizes


@dataclass(frozen=True)
class ModuleArchitecture:
    """Somebody's own module: what it takes and makes. The code is named by `teacher.factory`."""

    __pydantic_config__ = ConfigDict(extra="forbid")
    title: ClassVar[str] = "module of your own code"
    has_mapping: ClassVar[bool] = False
    can_truncate: ClassVar[bool] = False

    resolution: int
    z_dim: int
    blocks: tuple[str, ...]
    """Names of the submodules whose outputs are the block features, in order."""
    image_channels: int = 3
    num_classes: int = 0
    arguments: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments of the factory."""
    family: Literal["module"] = "module"

    def __post_init__(self) -> None:
        check_sizes(self.resolution, z_dim=self.z_dim, image_channels=self.image_channels)
        if not self.blocks:
            raise ValueError("blocks: name at least one submodule")

    @property
    def w_dim(self) -> int:
        """There is no mapped latent: `w` is `z`."""
        return self.z_dim

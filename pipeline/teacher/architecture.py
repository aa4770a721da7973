"""Shapes of the networks a teacher may have, as plain data: enough to build them. Imports no torch.

Each family has its frozen dataclasses in a file of `architectures/`, and a module of `networks/`
that builds them; `families.py` says which. `description.py` stores them in `teacher.json`.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from pipeline.teacher.architectures.biggan import (
    BigGANArchitecture,
    BigGANDiscriminatorArchitecture,
)
from pipeline.teacher.architectures.biggan_deep import BigGANDeepArchitecture
from pipeline.teacher.architectures.dcgan import (
    DCGANArchitecture,
    DCGANDiscriminatorArchitecture,
    NamedDCGANArchitecture,
)
from pipeline.teacher.architectures.fastgan import (
    FastGANArchitecture,
    FastGANDiscriminatorArchitecture,
)
from pipeline.teacher.architectures.lucidrains import (
    LucidrainsArchitecture,
    LucidrainsDiscriminatorArchitecture,
)
from pipeline.teacher.architectures.module import ModuleArchitecture
from pipeline.teacher.architectures.projected_gan import ProjectedGANArchitecture
from pipeline.teacher.architectures.r3gan import (
    R3GANArchitecture,
    R3GANDiscriminatorArchitecture,
)
from pipeline.teacher.architectures.rosinality import (
    RosinalityArchitecture,
    RosinalityDiscriminatorArchitecture,
)
from pipeline.teacher.architectures.stylegan2 import (
    StyleGAN2Architecture,
    StyleGAN2DiscriminatorArchitecture,
)
from pipeline.teacher.architectures.stylegan3 import StyleGAN3Architecture

GeneratorArchitecture = (
    StyleGAN2Architecture
    | StyleGAN3Architecture
    | DCGANArchitecture
    | NamedDCGANArchitecture
    | ModuleArchitecture
    | R3GANArchitecture
    | FastGANArchitecture
    | ProjectedGANArchitecture
    | LucidrainsArchitecture
    | RosinalityArchitecture
    | BigGANArchitecture
    | BigGANDeepArchitecture
)
AnyGeneratorArchitecture = Annotated[GeneratorArchitecture, Field(discriminator="family")]
"""For pydantic: which of them is said by the field `family`."""

DiscriminatorArchitecture = (
    StyleGAN2DiscriminatorArchitecture
    | R3GANDiscriminatorArchitecture
    | FastGANDiscriminatorArchitecture
    | LucidrainsDiscriminatorArchitecture
    | RosinalityDiscriminatorArchitecture
    | BigGANDiscriminatorArchitecture
    | DCGANDiscriminatorArchitecture
)
"""A union without a tag: descriptions from before there were others name no family."""

"""Which network is built from which architecture: one entry a family."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

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
from pipeline.teacher.interface import TeacherDiscriminator, TeacherGenerator
from pipeline.teacher.networks.biggan import BigGANDiscriminator, BigGANGenerator
from pipeline.teacher.networks.biggan_deep import BigGANDeepGenerator
from pipeline.teacher.networks.dcgan import (
    DCGANDiscriminator,
    DCGANGenerator,
    NamedDCGANGenerator,
)
from pipeline.teacher.networks.discriminator import Discriminator
from pipeline.teacher.networks.fastgan import FastGANGenerator
from pipeline.teacher.networks.fastgan_discriminator import FastGANDiscriminator
from pipeline.teacher.networks.lucidrains import LucidrainsGenerator
from pipeline.teacher.networks.lucidrains_discriminator import LucidrainsDiscriminator
from pipeline.teacher.networks.projected_gan import ProjectedGANGenerator
from pipeline.teacher.networks.r3gan import R3GANDiscriminator, R3GANGenerator
from pipeline.teacher.networks.rosinality import RosinalityDiscriminator, RosinalityGenerator
from pipeline.teacher.networks.stylegan2 import Generator
from pipeline.teacher.networks.stylegan3 import StyleGAN3Generator

GENERATORS: dict[type, Callable[[Any], TeacherGenerator]] = {
    StyleGAN2Architecture: Generator,
    DCGANArchitecture: DCGANGenerator,
    StyleGAN3Architecture: StyleGAN3Generator,
    NamedDCGANArchitecture: NamedDCGANGenerator,
    R3GANArchitecture: R3GANGenerator,
    FastGANArchitecture: FastGANGenerator,
    ProjectedGANArchitecture: ProjectedGANGenerator,
    LucidrainsArchitecture: LucidrainsGenerator,
    RosinalityArchitecture: RosinalityGenerator,
    BigGANArchitecture: BigGANGenerator,
    BigGANDeepArchitecture: BigGANDeepGenerator,
}
DISCRIMINATORS: dict[type, Callable[[Any], TeacherDiscriminator]] = {
    StyleGAN2DiscriminatorArchitecture: Discriminator,
    R3GANDiscriminatorArchitecture: R3GANDiscriminator,
    FastGANDiscriminatorArchitecture: FastGANDiscriminator,
    LucidrainsDiscriminatorArchitecture: LucidrainsDiscriminator,
    RosinalityDiscriminatorArchitecture: RosinalityDiscriminator,
    BigGANDiscriminatorArchitecture: BigGANDiscriminator,
    DCGANDiscriminatorArchitecture: DCGANDiscriminator,
}

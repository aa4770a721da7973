"""Tiny teachers of every kind (classes, grey, other families, one's own), and pools of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from benchmarks.speed.reference_biggan import random_generator
from benchmarks.speed.reference_biggan_deep import random_deep_generator
from benchmarks.speed.reference_stylegan3 import Geometry
from benchmarks.speed.render_stylegan3 import build_random_generator
from pipeline.config.generate import GenerateConfig
from pipeline.generate.plan import Plan, make_plan, make_recipe
from pipeline.generate.render import render_shard
from pipeline.teacher.architectures.dcgan import (
    DCGANArchitecture,
    NamedDCGANArchitecture,
    NamedLayer,
    TransposedLayer,
)
from pipeline.teacher.architectures.fastgan import FastGANArchitecture
from pipeline.teacher.architectures.lucidrains import LucidrainsArchitecture
from pipeline.teacher.architectures.projected_gan import ProjectedGANArchitecture
from pipeline.teacher.architectures.r3gan import R3GANArchitecture, R3GANStage
from pipeline.teacher.architectures.rosinality import RosinalityArchitecture
from pipeline.teacher.checkpoint import build_generator, save_teacher
from pipeline.teacher.description import TeacherInfo
from pipeline.teacher.importing import biggan_deep as biggan_deep_files
from pipeline.teacher.importing import biggan_tensors
from pipeline.teacher.interface import TeacherGenerator
from pipeline.teacher.networks.dcgan import DCGANGenerator, NamedDCGANGenerator
from pipeline.teacher.networks.fastgan import FastGANGenerator
from pipeline.teacher.networks.lucidrains import LucidrainsGenerator
from pipeline.teacher.networks.module import wrap_module
from pipeline.teacher.networks.projected_gan import ProjectedGANGenerator
from pipeline.teacher.networks.r3gan import R3GANGenerator
from pipeline.teacher.networks.rosinality import RosinalityGenerator
from pipeline.teacher.networks.stylegan2 import Generator
from pipeline.teacher.networks.stylegan3 import StyleGAN3Generator
from pipeline.teacher.spelling import Spelling
from shards.pool import PoolReader
from shards.storage import Folder
from tests.support import biggan_files, own_generator
from tests.support.tiny_shards import ARCHITECTURE, list_rendered, teacher_info

Network = TypeVar("Network", bound=nn.Module)
CONFIG = GenerateConfig(num_samples=12, samples_per_shard=6, render_batch=4, seed=5)
NUM_CLASSES = 5


def stylegan2(**changes: Any) -> Generator:
    """Whose noise inputs act and whose weights depend on nothing but the architecture."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        generator = Generator(replace(ARCHITECTURE, **changes))
        for name, parameter in generator.named_parameters():
            if name.endswith("noise_strength"):
                parameter.data.uniform_(0.2, 0.5)
    return generator.eval().requires_grad_(False)


def dcgan(image_channels: int = 3) -> DCGANGenerator:
    """As imported with a JSON."""
    layers = (
        TransposedLayer(8, 4, 1, 0),
        TransposedLayer(6, 4, 2, 1),
        TransposedLayer(image_channels, 4, 2, 1, has_bias=True, has_norm=False),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        generator = DCGANGenerator(DCGANArchitecture(7, layers))
        for name, buffer in generator.named_buffers():
            if name.endswith("running_var"):
                buffer.uniform_(0.01, 0.1)
    return generator.eval().requires_grad_(False)


def named_dcgan() -> NamedDCGANGenerator:
    """As imported without a JSON."""
    layers = tuple(
        NamedLayer(layer, f"main.{3 * index}", f"main.{3 * index + 1}" * layer.has_norm, activation)
        for index, (layer, activation) in enumerate(
            zip(dcgan().arch.layers, ["main.2", "main.5", ""], strict=True)
        )
    )
    return with_statistics(NamedDCGANGenerator, NamedDCGANArchitecture(7, layers))


def rosinality() -> RosinalityGenerator:
    """Whose noise inputs act."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        generator = RosinalityGenerator(RosinalityArchitecture(6, 2, (8, 6, 4)))
        for name, parameter in generator.named_parameters():
            if name.endswith("noise_strength"):
                parameter.data.uniform_(0.2, 0.5)
    return generator.eval().requires_grad_(False)


def stylegan3() -> StyleGAN3Generator:
    """Made for half precision in every layer."""
    geometry = Geometry(resolution=16, channel_base=60, channel_max=6, num_layers=4, margin=4)
    return build_random_generator(geometry, z_dim=6, w_dim=8)


def r3gan() -> R3GANGenerator:
    """Conditional, its upper stages made for bfloat16, with a change of width."""
    stages = (R3GANStage(8, 2, 16, 4), R3GANStage(8, 1, 16, 2, is_half=True))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        arch = R3GANArchitecture(
            z_dim=6,
            stages=(*stages, R3GANStage(6, 1, 12, 3, is_half=True)),
            num_classes=NUM_CLASSES,
            embedding_width=4,
        )
        generator = R3GANGenerator(arch)
        for parameter in generator.parameters():
            if parameter.dim() == 1:
                parameter.data.normal_()
    return generator.eval().requires_grad_(False)


def lucidrains() -> LucidrainsGenerator:
    """With attention before the second block, and noise that shows."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        arch = LucidrainsArchitecture(
            z_dim=6, num_mapping_layers=2, widths=(8, 6, 4), attention=(1,), mapping_lr_mult=0.5
        )
        generator = LucidrainsGenerator(arch)
        for name, parameter in generator.named_parameters():
            if ".to_noise" in name or ".norm." in name:
                parameter.data.normal_()
    return generator.eval().requires_grad_(False)


def projected_gan(**changes: Any) -> ProjectedGANGenerator:
    arch = ProjectedGANArchitecture(z_dim=5, widths=(4, 3, 3, 2, 2, 2), **changes)
    return with_statistics(ProjectedGANGenerator, arch)


def fastgan(num_resolutions: int = 7, z_dim: int = 5) -> FastGANGenerator:
    """Of 256 px with 7 resolutions."""
    arch = FastGANArchitecture(z_dim, widths=(4, 3, 3, 2, 2, 2, 2, 1, 1)[:num_resolutions])
    return with_statistics(FastGANGenerator, arch)


def with_statistics(build: Callable[[Any], Network], arch: Any) -> Network:
    """A network whose batch norms do something and whose noise shows."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        network = build(arch)
        for name, value in network.state_dict().items():
            if name.endswith("_var"):
                value.uniform_(0.5, 1.5)
            elif name.endswith("gain.bias"):  # to which the network adds 1
                value.normal_(0, 0.5)
            elif value.dim() == 1:
                value.normal_(1, 0.5)
    return network.eval().requires_grad_(False)


def biggan() -> TeacherGenerator:
    """With a shared embedding and attention."""
    tensors = random_generator(biggan_files.SHARED)
    arch, tensors, _ = biggan_tensors.convert_generator(tensors, Spelling(), 1e-8, 1e-5)
    return build_generator(arch, tensors)


def biggan_deep() -> TeacherGenerator:
    tensors = random_deep_generator(biggan_files.FLAT)
    config = biggan_files.FLAT.config
    arch, tensors, _ = biggan_deep_files.convert_generator(tensors, Spelling(), config)
    return build_generator(arch, tensors)


def own_module() -> TeacherGenerator:
    module = own_generator.build_random()
    return wrap_module(module, z_dim=6, blocks=["first", "second"]).requires_grad_(False)


TEACHERS = {
    "conditional": lambda: stylegan2(num_classes=NUM_CLASSES),
    "one-class": lambda: stylegan2(num_classes=1),
    "grey": lambda: stylegan2(image_channels=1),
    "residual": lambda: stylegan2(skips="resnet"),
    "dcgan": dcgan,
    "grey-dcgan": lambda: dcgan(1),
    "named-dcgan": named_dcgan,
    "rosinality": rosinality,
    "r3gan": r3gan,
    "stylegan3": stylegan3,
    "lucidrains": lucidrains,
    "biggan": biggan,
    "biggan-deep": biggan_deep,
    "own": own_module,
}


def describe(generator: TeacherGenerator, folder: Path) -> TeacherInfo:
    return save_teacher(folder / "teacher", generator)


def render(
    generator: TeacherGenerator, folder: Path, shards: Sequence[int] = (0, 1), **changes: Any
) -> tuple[Plan, PoolReader]:
    """The pool that the config with `changes` asks for, and what was written."""
    config = CONFIG.model_copy(update=changes)
    plan = make_plan(config, describe(generator, folder), Folder.at(folder / "store"))
    schemas = {wanted.name: wanted.schema for wanted in plan.sets}
    rendered = [render_shard(generator, plan.recipe, plan.folder, schemas, k) for k in shards]
    list_rendered(plan.folder, schemas, rendered)
    return plan, PoolReader(plan.folder, plan.feature_sets, remedy="render")


def fake_info(generator: TeacherGenerator) -> TeacherInfo:
    """Enough to make a recipe of."""
    return replace(teacher_info(), generator=generator.arch)


def pool_key(info: TeacherInfo, factory: str | None = None, **changes: Any) -> str:
    return make_recipe(CONFIG.model_copy(update=changes), info, factory).key

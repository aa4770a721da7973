"""Teachers on disk: safetensors for the weights, `teacher.json` for everything else. Nothing is
executed on loading.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from pipeline.record import file_digest
from pipeline.teacher.architecture import (
    DISCRIMINATOR_FILE,
    GENERATOR_FILE,
    TEACHER_FILE,
    Architecture,
    TeacherInfo,
    check_digest,
    read_teacher_info,
)
from pipeline.teacher.stylegan2 import Discriminator, Generator
from shards.atomic import write_atomic
from shards.errors import UserError

Network = TypeVar("Network", bound=nn.Module)


def save_teacher(
    folder: Path, generator: Generator, discriminator: Discriminator, training: dict[str, Any]
) -> TeacherInfo:
    """Write both networks and their description; `teacher.json` comes last and makes the teacher
    exist.
    """
    networks: dict[str, nn.Module] = {GENERATOR_FILE: generator, DISCRIMINATOR_FILE: discriminator}
    for name, network in networks.items():
        tensors = {
            key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()
        }
        write_atomic(folder / name, save(tensors))
    info = TeacherInfo(
        generator.arch, {name: file_digest(folder / name) for name in networks}, training
    )
    write_atomic(folder / TEACHER_FILE, info.to_json())
    return info


def load_generator(folder: Path) -> Generator:
    """The frozen generator of the teacher in `folder`, in evaluation mode on the CPU.

    Raises:
        UserError: naming the file that is missing, damaged or does not fit its description.
    """
    info = read_teacher_info(folder)
    generator = Generator(info.architecture)
    _load(generator, folder / GENERATOR_FILE)
    return _freeze(generator)


def load_discriminator(folder: Path) -> Discriminator:
    """The frozen discriminator beside it; raises as `load_generator` does."""
    info = read_teacher_info(folder)
    check_digest(folder, info, DISCRIMINATOR_FILE)
    discriminator = Discriminator(info.architecture)
    _load(discriminator, folder / DISCRIMINATOR_FILE)
    return _freeze(discriminator)


def build_generator(architecture: Architecture, weights: dict[str, Any]) -> Generator:
    """A frozen generator from its state dict, as a rendering worker receives it."""
    generator = Generator(architecture)
    generator.load_state_dict(weights)
    return _freeze(generator)


def _freeze(network: Network) -> Network:
    """Evaluation mode, no gradients, channels-last: the faster layout on CPUs and on GPUs."""
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network.eval().requires_grad_(False)


def _load(network: nn.Module, path: Path) -> None:
    try:
        network.load_state_dict(load_file(path))
    except (SafetensorError, OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"{path}: does not hold the network that {TEACHER_FILE} describes ({reason})"
        ) from None

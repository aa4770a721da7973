"""Teachers on disk: weights as safetensors, all else in `teacher.json`; nothing is executed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from pipeline.records.digests import file_digest
from pipeline.teacher.architecture import GeneratorArchitecture
from pipeline.teacher.architectures.module import ModuleArchitecture
from pipeline.teacher.description import (
    DISCRIMINATOR_FILE,
    GENERATOR_FILE,
    TEACHER_FILE,
    Teacher,
    TeacherInfo,
    check_digest,
    read_teacher_info,
)
from pipeline.teacher.families import DISCRIMINATORS, GENERATORS
from pipeline.teacher.features import list_features
from pipeline.teacher.interface import TeacherDiscriminator, TeacherGenerator
from pipeline.teacher.networks.module import build_module
from pipeline.teacher.spelling import Spelling
from pipeline.teacher.unfilled import unfilled
from shards.atomic import remove_stale, write_atomic
from shards.errors import UserError

Network = TypeVar("Network", bound=nn.Module)
_OWN = Spelling()
PRECISIONS = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
"""What a recipe may name."""


def save_teacher(
    folder: Path,
    generator: TeacherGenerator,
    discriminator: TeacherDiscriminator | None = None,
    origin: dict[str, Any] | None = None,
) -> TeacherInfo:
    """Write the networks and their description, in place of those of an earlier teacher;
    `teacher.json` comes last and makes the teacher exist.

    `origin` says how it came to be: a training, an import.
    """
    features = list_features(generator)
    remove_stale(folder)
    (folder / TEACHER_FILE).unlink(missing_ok=True)
    networks: dict[str, nn.Module] = {GENERATOR_FILE: generator}
    if discriminator is None:
        (folder / DISCRIMINATOR_FILE).unlink(missing_ok=True)
    else:
        networks[DISCRIMINATOR_FILE] = discriminator
    for name, network in networks.items():
        tensors = {
            key: value.detach().cpu().clone(memory_format=torch.contiguous_format)
            for key, value in network.state_dict().items()
        }
        write_atomic(folder / name, save(tensors))
    info = TeacherInfo(
        generator.arch,
        None if discriminator is None else discriminator.arch,
        features,
        {name: file_digest(folder / name) for name in networks},
        origin or {},
    )
    write_atomic(folder / TEACHER_FILE, info.to_json())
    return info


def load_generator(folder: Path, factory: str | None = None) -> TeacherGenerator:
    """The frozen generator of the teacher in `folder`, in evaluation mode on the CPU.

    `factory` names the code of one's own module (`teacher.factory`).

    Raises:
        UserError: naming the file that is missing, damaged or does not fit its description.
    """
    info = read_teacher_info(folder)
    tensors = _read_tensors(folder / GENERATOR_FILE)
    try:
        return build_generator(info.generator, tensors, factory)
    except ValueError as error:
        raise misfit(folder / GENERATOR_FILE, error) from None


def load_renderer(teacher: Teacher, device: torch.device, precision: str) -> TeacherGenerator:
    """The generator on `device`, in the precision of a recipe; raises as `load_generator`."""
    generator = load_generator(teacher.folder, teacher.factory).to(device)
    generator.set_precision(PRECISIONS[precision])
    return generator


def load_discriminator(folder: Path) -> TeacherDiscriminator:
    """The frozen discriminator beside it; raises as `load_generator` does."""
    info = read_teacher_info(folder)
    path = folder / DISCRIMINATOR_FILE
    if info.discriminator is not None:
        check_digest(folder, info, DISCRIMINATOR_FILE)
    return read_discriminator(path, info)


def read_discriminator(path: Path, info: TeacherInfo) -> TeacherDiscriminator:
    """The frozen discriminator in `path`, of the teacher `info`; raises as `load_generator`."""
    if info.discriminator is None:
        raise UserError(f"{path.parent}: this teacher has no discriminator")
    tensors = _read_tensors(path)
    with unfilled():
        discriminator: TeacherDiscriminator = DISCRIMINATORS[type(info.discriminator)](
            info.discriminator
        )
    try:
        return fill(discriminator, tensors)
    except ValueError as error:
        raise misfit(path, error) from None


def build_generator(
    arch: GeneratorArchitecture,
    tensors: Mapping[str, Tensor],
    factory: str | None = None,
    spelling: Spelling = _OWN,
) -> TeacherGenerator:
    """A frozen generator of any family from its state dict.

    Raises:
        ValueError: if the tensors are not those of the architecture, in `spelling`.
    """
    if isinstance(arch, ModuleArchitecture):
        return fill(build_module(arch, factory), tensors, spelling)
    with unfilled():  # no memory for sizes that turn out to be wrong
        generator: TeacherGenerator = GENERATORS[type(arch)](arch)
    return fill(generator, tensors, spelling)


def fill(network: Network, tensors: Mapping[str, Tensor], spelling: Spelling = _OWN) -> Network:
    """`network`, which may be on the meta device, with the weights `tensors`; frozen, in evaluation
    mode, channels-last: the faster layout on CPUs and on GPUs.

    Raises:
        ValueError: naming what is missing, superfluous or of another shape, in `spelling`.
    """
    expected = network.state_dict()
    missing, extra = expected.keys() - tensors.keys(), tensors.keys() - expected.keys()
    if missing or extra:
        parts = {"missing": missing, "unknown": extra}
        raise ValueError(
            "; ".join(
                f"{kind} {_first(map(spelling.name, names))}"
                for kind, names in parts.items()
                if names
            )
        )
    for name, tensor in tensors.items():
        if tensor.shape != expected[name].shape:
            found, wanted = (spelling.shape(name, x.shape) for x in (tensor, expected[name]))
            raise ValueError(f"{spelling.name(name)} is {found}, expected {wanted}")
    converted = {name: tensor.to(expected[name].dtype) for name, tensor in tensors.items()}
    for name, tensor in converted.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise ValueError(f"{spelling.name(name)} is not finite")
    network.load_state_dict(converted, assign=True)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network.eval().requires_grad_(False)


def _first(names: Iterable[str]) -> str:
    ordered = sorted(names)
    more = f" and {len(ordered) - 3} more" if len(ordered) > 3 else ""
    return ", ".join(ordered[:3]) + more


def misfit(path: Path, error: ValueError) -> UserError:
    """What to say of weights in `path` that `build_generator` does not take."""
    return UserError(f"{path}: does not hold the network that {TEACHER_FILE} describes ({error})")


def _read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{path}: cannot be read as safetensors ({reason})") from None

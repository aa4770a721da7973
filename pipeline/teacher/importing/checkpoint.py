"""`python -m pipeline import-teacher FILE --out FOLDER`: other people's checkpoints -> a teacher.

Reads official StyleGAN2-ADA pickles, TensorFlow-era ones and plain state dicts, and executes
nothing from any of them. Neighbours: one `importing/` for each layout, `checkpoint.py` writes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch

from pipeline.records.digests import file_digest
from pipeline.teacher.architecture import DiscriminatorArchitecture, GeneratorArchitecture
from pipeline.teacher.architectures.stylegan2 import StyleGAN2Architecture
from pipeline.teacher.checkpoint import build_generator, fill, save_teacher
from pipeline.teacher.description import TEACHER_FILE, TeacherInfo, read_teacher_info
from pipeline.teacher.families import DISCRIMINATORS
from pipeline.teacher.importing import state_dicts, stylegan2_ada, stylegan2_tensorflow
from pipeline.teacher.importing.infer import Converted, complete
from pipeline.teacher.importing.safe_pickle import read_pickle
from pipeline.teacher.importing.state_dicts import is_state_file, read_architecture, read_states
from pipeline.teacher.interface import TeacherDiscriminator, TeacherGenerator
from pipeline.teacher.networks.stylegan2 import Generator
from shards.errors import UserError


class Imported(NamedTuple):
    """What a file holds."""

    layout: str
    generator: Converted[GeneratorArchitecture]
    discriminator: Converted[DiscriminatorArchitecture] | None


def import_teacher(
    file: Path, folder: Path, *, architecture: Path | None = None, discriminator: Path | None = None
) -> TeacherInfo:
    """Write the teacher in `file` to `folder`; does nothing if it is there already.

    Args:
        file: an official pickle, or a state dict (safetensors or weights-only torch file).
        folder: gets `generator.safetensors`, `discriminator.safetensors` (where the file has one)
            and `teacher.json`.
        architecture: JSON describing a state dict; official pickles describe themselves.
        discriminator: state dict of the discriminator, if it is in a file of its own.

    Raises:
        UserError: naming the file and what is wrong with it; nothing is written then.
    """
    if not file.is_file():
        raise UserError(f"{file}: no such file")
    origin = {"kind": "import", "file": file.name, "sha256": file_digest(file)}
    if architecture is not None:
        origin["architecture_sha256"] = file_digest(architecture) if architecture.is_file() else ""
    if discriminator is not None and discriminator.is_file():
        origin["discriminator_sha256"] = file_digest(discriminator)
    if (folder / TEACHER_FILE).exists():
        info = read_teacher_info(folder)
        if _without_names(info.origin) == _without_names(origin):
            return info
        raise UserError(f"{folder}: holds another teacher; choose another --out, or delete it")
    try:
        imported = _read(file, architecture, discriminator)
        generator, judge = _build(imported, discriminator)
        with torch.no_grad():
            info = save_teacher(folder, generator, judge, {**origin, "layout": imported.layout})
    except (ValueError, IndexError, KeyError, TypeError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"{file}: cannot be imported: {reason}") from None
    return info


def _without_names(origin: dict[str, Any]) -> dict[str, Any]:
    """The digests alone: the same file under another name is the same teacher."""
    return {name: value for name, value in origin.items() if name.endswith("sha256")}


def _read(file: Path, architecture: Path | None, discriminator: Path | None) -> Imported:
    if is_state_file(file):
        if architecture is None:
            raise UserError(
                f"{file}: a plain state dict; describe it with --architecture FILE.json, which "
                'holds at least {"family": "stylegan2"} or {"family": "dcgan"}'
            )
        if discriminator is not None and not discriminator.is_file():
            raise UserError(f"{discriminator}: no such file")
        return _read_states(file, discriminator, read_architecture(architecture))
    if architecture is not None or discriminator is not None:
        raise UserError(
            f"{file}: neither safetensors nor a torch file of today's format. An official pickle "
            "describes itself: leave out --architecture and the like; an old torch file: load it "
            "and save it again with torch.save(network.state_dict(), FILE)"
        )
    return _read_pickle(file)


def _read_pickle(file: Path) -> Imported:
    content = read_pickle(file)
    if stylegan2_ada.is_official(content):
        judge = content.get("D")
        return Imported(
            "StyleGAN2-ADA PyTorch pickle",
            stylegan2_ada.convert_generator(content["G_ema"]),
            None if judge is None else stylegan2_ada.convert_discriminator(judge),
        )
    if stylegan2_tensorflow.is_official(content):
        return Imported(
            "StyleGAN2 TensorFlow pickle",
            stylegan2_tensorflow.convert_generator(content[2]),
            stylegan2_tensorflow.convert_discriminator(content[1]),
        )
    kind = f"{type(content).__name__}"
    if isinstance(content, dict):
        kind += f" with {', '.join(json.dumps(str(key)) for key in list(content)[:5])}"
    raise UserError(
        f"{file}: a pickle of another layout ({kind}); expected a dictionary with G_ema, or a "
        "tuple (G, D, Gs)"
    )


def _read_states(file: Path, discriminator: Path | None, said: dict[str, Any]) -> Imported:
    if said["family"] == "dcgan" and discriminator is not None:
        raise UserError("--discriminator: only a StyleGAN2 is imported with one; leave it out")
    tensors = read_states(file)
    if said["family"] == "dcgan":
        return Imported("DCGAN state dict", state_dicts.convert_dcgan(tensors, said), None)
    generator = state_dicts.convert_generator(tensors, said)
    judge = None
    with _naming(discriminator):
        judge = state_dicts.convert_discriminator(
            tensors if discriminator is None else read_states(discriminator),
            said,
            is_alone=discriminator is not None,
        )
    return Imported("StyleGAN2 state dict", generator, judge)


def _build(
    imported: Imported, discriminator: Path | None
) -> tuple[TeacherGenerator, TeacherDiscriminator | None]:
    """The networks, checked name by name and shape by shape."""
    arch, tensors, spelling = imported.generator
    if isinstance(arch, StyleGAN2Architecture):
        with torch.device("meta"):
            expected = Generator(arch).state_dict()
        tensors = complete(tensors, expected)
    generator = build_generator(arch, tensors, spelling=spelling)
    if imported.discriminator is None:
        return generator, None
    arch_d, tensors_d, spelling_d = imported.discriminator
    with torch.device("meta"):
        judge: TeacherDiscriminator = DISCRIMINATORS[type(arch_d)](arch_d)
    with _naming(discriminator):
        judge = fill(judge, complete(tensors_d, judge.state_dict()), spelling_d)
    return generator, judge


@contextmanager
def _naming(file: Path | None) -> Iterator[None]:
    """Says that a misfit is in `file`, where it is another than the first."""
    try:
        yield
    except ValueError as error:
        if file is None:
            raise
        raise ValueError(f"in {file}: {error}") from None

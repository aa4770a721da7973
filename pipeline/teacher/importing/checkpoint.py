"""`python -m pipeline import-teacher FILE --out FOLDER`: other people's checkpoints -> a teacher.

Executes nothing from any file. Neighbours: `source.py` reads, `layouts.py` recognises and converts,
`teacher/checkpoint.py` writes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from pipeline.records.digests import file_digest
from pipeline.teacher.architectures.sizes import IMAGE_CHANNELS, RGBA
from pipeline.teacher.architectures.stylegan2 import (
    StyleGAN2Architecture,
    StyleGAN2DiscriminatorArchitecture,
)
from pipeline.teacher.checkpoint import build_generator, fill, save_teacher
from pipeline.teacher.description import TEACHER_FILE, TeacherInfo, read_teacher_info
from pipeline.teacher.families import DISCRIMINATORS
from pipeline.teacher.importing import layouts
from pipeline.teacher.importing.architecture_file import read_architecture
from pipeline.teacher.importing.imported import Imported, naming
from pipeline.teacher.importing.infer import complete
from pipeline.teacher.importing.source import Source
from pipeline.teacher.interface import TeacherDiscriminator, TeacherGenerator
from pipeline.teacher.networks.stylegan2 import Generator
from pipeline.teacher.unfilled import unfilled
from shards.errors import UserError

_WRONG = (ValueError, LookupError, TypeError, AttributeError, RuntimeError, ArithmeticError)
"""What contents of the wrong kind cause in a layout's code."""


def import_teacher(
    file: Path, folder: Path, *, architecture: Path | None = None, discriminator: Path | None = None
) -> TeacherInfo:
    """Write the teacher in `file` to `folder`; does nothing if it is there already.

    Args:
        file: a checkpoint, or the folder that its files are in.
        folder: gets `generator.safetensors`, `discriminator.safetensors` (where the file has one)
            and `teacher.json`.
        architecture: JSON that says what the file does not.
        discriminator: of a file of its own.

    Raises:
        UserError: naming the file and what is wrong with it; nothing is written then.
    """
    if not file.exists():
        raise UserError(f"{file}: no such file; name a checkpoint, or a folder with its files")
    try:
        source = _open(file, architecture, discriminator)
        imported = _with_known_channels(layouts.convert(source))
        origin: dict[str, Any] = {"kind": "import", "file": file.name} | source.digests()
        if architecture is not None:
            origin["architecture_sha256"] = file_digest(architecture)
        if (folder / TEACHER_FILE).exists():
            return _existing(folder, origin)
        origin |= {
            "layout": imported.layout,
            "weights": _printable(imported.weights),
            "is_averaged": imported.is_averaged,
            "notes": [_printable(note) for note in imported.notes],
        }
        generator, judge = _build(imported, discriminator)
        del source, imported  # the networks have weights of their own
        with torch.no_grad():
            return save_teacher(folder, generator, judge, origin)
    except _WRONG as error:
        reason = _printable(str(error)) or type(error).__name__
        raise UserError(f"{file}: cannot be imported: {reason}") from None


def _printable(text: str) -> str:
    """One line, in which names of the file steer no terminal."""
    line = " ".join(text.split())[:300]
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)


def _open(file: Path, architecture: Path | None, discriminator: Path | None) -> Source:
    if discriminator is not None and not discriminator.is_file():
        raise UserError(
            f"--discriminator: {discriminator}: no such file; name one, or leave it out"
        )
    return Source(
        file,
        None if architecture is None else read_architecture(architecture),
        None if discriminator is None else Source(discriminator),
    )


def _with_known_channels(imported: Imported) -> Imported:
    """The same; with a note if samples will lack something of the images."""
    num_channels = imported.generator.arch.image_channels
    if num_channels not in IMAGE_CHANNELS:
        raise ValueError(
            f"the images have {num_channels} channels; a teacher's are grey, RGB or RGBA"
        )
    if num_channels != RGBA:
        return imported
    note = "samples lose the images' alpha channel, and real images are opaque to the discriminator"
    return imported._replace(notes=(*imported.notes, note))


def _existing(folder: Path, origin: dict[str, Any]) -> TeacherInfo:
    """The teacher in `folder`, if it is the one of these files: under other names it is, too."""
    info = read_teacher_info(folder)
    if _digests(info.origin) != _digests(origin):
        raise UserError(f"{folder}: holds another teacher; choose another --out, or delete it")
    return info


def _digests(origin: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in origin.items() if name.endswith("sha256")}


def _build(
    imported: Imported, discriminator: Path | None
) -> tuple[TeacherGenerator, TeacherDiscriminator | None]:
    """The networks, checked name by name and shape by shape."""
    arch, tensors, spelling = imported.generator
    if isinstance(arch, StyleGAN2Architecture):
        with unfilled():
            expected = Generator(arch).state_dict()
        tensors = complete(tensors, expected)
    generator = build_generator(arch, tensors, spelling=spelling)
    if imported.discriminator is None:
        return generator, None
    arch_d, tensors_d, spelling_d = imported.discriminator
    with unfilled():
        judge: TeacherDiscriminator = DISCRIMINATORS[type(arch_d)](arch_d)
    if isinstance(arch_d, StyleGAN2DiscriminatorArchitecture):
        tensors_d = complete(tensors_d, judge.state_dict())
    with naming(discriminator):
        judge = fill(judge, tensors_d, spelling_d)
    return generator, judge

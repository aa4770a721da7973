"""What a teacher is, as far as it can be said without loading it: `teacher.json`. Imports no torch.

Neighbours: `checkpoint.py` writes the file beside the weights; planning reads it to know sizes of
features and digests.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from pipeline.records.digests import file_digest
from pipeline.records.products import TrainedTeacher
from pipeline.records.record import read_record
from pipeline.teacher.architecture import AnyGeneratorArchitecture, DiscriminatorArchitecture
from shards.errors import UserError
from shards.schema import W

TEACHER_FILE = "teacher.json"
GENERATOR_FILE = "generator.safetensors"
DISCRIMINATOR_FILE = "discriminator.safetensors"
STATE_FILE = "state.pt"
"""Where its training has come to."""
SNAPSHOTS = "snapshots"
"""Folder of teachers as they were in the middle of the training."""


@dataclass(frozen=True)
class FeatureInfo:
    """One feature a teacher offers: the output of the submodule `name`, [B, num_channels, r, r]."""

    name: str
    num_channels: int
    resolution: int
    is_block: bool


@dataclass(frozen=True)
class TeacherInfo:
    """`teacher.json`: architectures, features, SHA-256 of the weight files by name, and `origin`,
    how the teacher came to be.
    """

    generator: AnyGeneratorArchitecture
    discriminator: DiscriminatorArchitecture | None
    features: tuple[FeatureInfo, ...]
    digests: dict[str, str]
    origin: dict[str, Any]

    @property
    def blocks(self) -> tuple[str, ...]:
        """Names of the block features, in order."""
        return tuple(feature.name for feature in self.features if feature.is_block)

    def select(
        self, wanted: Literal["blocks"] | Sequence[str], field: str = "generate.features"
    ) -> list[tuple[str, int]]:
        """(name, channels) of the features `wanted` by the config's `field`, in that order.

        Raises:
            UserError: naming one that the teacher does not have, `w` of a family without a mapping
                among them.
        """
        sizes = {feature.name: feature.num_channels for feature in self.features}
        if self.generator.has_mapping:
            sizes[W] = self.generator.w_dim
        names = self.blocks if wanted == "blocks" else wanted
        if len(set(names)) < len(names):
            raise UserError(f"{field}: duplicate name")
        if W in names and not self.generator.has_mapping:
            raise UserError(
                f"{field}: this {self.generator.title} has no mapped latent {W!r}; name "
                f"others, such as {', '.join(self.blocks[:3])}"
            )
        for name in names:
            if name not in sizes:
                raise UserError(f"{field}: the teacher has no {name!r}; it has {', '.join(sizes)}")
        return [(name, sizes[name]) for name in names]

    def check_method(self, name: str) -> None:
        """Raise `UserError` for a way to train that the teacher has not the networks for."""
        if name == "encoding" and not self.generator.has_mapping:
            raise UserError(
                f"train.method.name=encoding: this {self.generator.title} has no mapped latent; "
                "take a StyleGAN"
            )
        if name == "discriminator" and self.discriminator is None:
            raise UserError(
                f"train.method.name=discriminator: this {self.generator.title} has no "
                "discriminator; import it with one, or take another teacher"
            )

    def check_sampling(self, sampling: Sampling) -> None:
        """Raise `UserError` for a setting of samples that the teacher's family does not have."""
        arch = self.generator
        if sampling.truncation_psi != 1 and not arch.can_truncate:
            raise UserError(
                f"generate.truncation_psi: this {arch.title} has no mapped latent to truncate; "
                "leave it at 1"
            )
        if sampling.truncation_cutoff is not None and arch.can_truncate and not arch.has_mapping:
            raise UserError(
                f"generate.truncation_cutoff: this {arch.title} has no layers to tell apart; "
                "leave it out"
            )
        if sampling.classes is None:
            return
        if not arch.num_classes:
            raise UserError("generate.classes: this teacher has no classes; leave it out")
        if (highest := max(sampling.classes)) >= arch.num_classes:
            raise UserError(
                f"generate.classes: there is no class {highest}; this teacher has "
                f"{arch.num_classes}, from 0 to {arch.num_classes - 1}"
            )

    def to_json(self) -> str:
        """Content of `teacher.json`."""
        return json.dumps(asdict(self), indent=2, sort_keys=True) + "\n"


@dataclass(frozen=True)
class Teacher:
    """Where a generator comes from: its folder, and the code of a module of one's own."""

    folder: Path
    factory: str | None


@dataclass(frozen=True)
class Sampling:
    """Which of a teacher's samples are meant: sample *i* is a function of these and *i*."""

    seed: int
    noise: str
    """`random`, `const` or `none`."""
    truncation_psi: float
    truncation_cutoff: int | None
    classes: tuple[int, ...] | None = None
    """Classes to draw from; None: all that the teacher has."""

    def __str__(self) -> str:
        """As records have it; classes only where some were chosen."""
        text = ", ".join(map(str, astuple(self)[:-1]))
        return text if self.classes is None else f"{text}, classes {list(self.classes)}"


def is_finished(folder: Path) -> bool:
    """Whether there is a teacher in `folder`, and no training of it that has not ended."""
    is_in_training = (folder / STATE_FILE).exists() and read_record(folder, TrainedTeacher) is None
    return (folder / TEACHER_FILE).exists() and not is_in_training


@cache
def _adapter() -> TypeAdapter[TeacherInfo]:
    """Built once: it takes longer than the rest of reading."""
    return TypeAdapter(TeacherInfo)


def read_teacher_info(folder: Path) -> TeacherInfo:
    """Description of the teacher in `folder`, whose generator is checked to be the one described.

    Raises:
        UserError: naming the file that is missing, damaged or of another kind.
    """
    path = folder / TEACHER_FILE
    remedy = (
        "name a teacher with teacher.checkpoint=…, import one with `make import TEACHER=FILE "
        "OUT=teachers/NAME`, or train one with `make teacher`"
    )
    if folder.is_file():
        raise UserError(
            f"{folder}: is a file, and a teacher is a folder; if it is the checkpoint of a GAN, "
            f"import it: python -m pipeline import-teacher {folder} --out teachers/{folder.stem}"
        )
    if not path.exists():
        raise UserError(f"{path}: no teacher here; {remedy}")
    try:
        info = _adapter().validate_json(path.read_bytes())
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        place = ".".join(map(str, problem["loc"]))
        raise UserError(f"{path}: damaged ({place}: {problem['msg']}); {remedy}") from None
    check_digest(folder, info, GENERATOR_FILE)
    return info


def find_teacher(folder: Path, digest: str | None) -> TeacherInfo | None:
    """Description of the teacher in `folder` if a network of it has this SHA-256: another may have
    been put there since.
    """
    try:
        info = read_teacher_info(folder)
    except UserError:
        return None
    return info if digest in info.digests.values() else None


def check_digest(folder: Path, info: TeacherInfo, name: str) -> None:
    """Raise `UserError` unless the weight file `name` is the one `info` describes."""
    path = folder / name
    if not path.exists():
        raise UserError(
            f"{path}: missing; restore the teacher's folder or name another with "
            "teacher.checkpoint=…"
        )
    if file_digest(path) != info.digests.get(name):
        raise UserError(
            f"{path}: damaged (sha256 is not the one in {TEACHER_FILE}); restore the teacher's "
            "folder"
        )

"""What a teacher is, as far as it can be said without loading it: `teacher.json`. Imports no torch.

Neighbours: `checkpoint.py` writes the file beside the weights; planning reads it to know block
sizes and digests.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError

from pipeline.record import file_digest
from shards.errors import UserError

TEACHER_FILE = "teacher.json"
GENERATOR_FILE = "generator.safetensors"
DISCRIMINATOR_FILE = "discriminator.safetensors"


@dataclass(frozen=True)
class Architecture:
    """Shape of a StyleGAN2: enough to build both networks (METHOD: channels = min(base // res,
    max)).
    """

    __pydantic_config__ = ConfigDict(extra="forbid")  # an unknown field is another architecture

    resolution: int
    z_dim: int
    w_dim: int
    num_mapping_layers: int
    channel_base: int
    channel_max: int
    image_channels: int = 3
    conv_clamp: float | None = None
    mbstd_group_size: int = 32

    def __post_init__(self) -> None:
        sizes = (self.z_dim, self.w_dim, self.num_mapping_layers, self.channel_base)
        if min(*sizes, self.channel_max, self.image_channels, self.mbstd_group_size) < 1:
            raise ValueError("every size must be positive")
        if max(self.z_dim, self.w_dim, self.channel_max, self.num_mapping_layers) > 1 << 16:
            raise ValueError("a size is absurdly large")
        if self.resolution < 8 or self.resolution & (self.resolution - 1):
            raise ValueError(
                f"resolution: must be a power of two of at least 8, got {self.resolution}"
            )

    @property
    def block_resolutions(self) -> list[int]:
        """Resolutions of the synthesis blocks, 4 first."""
        return [2**k for k in range(2, int(math.log2(self.resolution)) + 1)]

    def num_channels(self, resolution: int) -> int:
        """Width of the block at `resolution`."""
        return max(1, min(self.channel_base // resolution, self.channel_max))

    @property
    def num_ws(self) -> int:
        """Copies of `w` that the synthesis network takes: 2 log2(resolution) - 2."""
        return 2 * int(math.log2(self.resolution)) - 2

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-able dictionary."""
        return asdict(self)


@dataclass(frozen=True)
class TeacherInfo:
    """`teacher.json`: architecture, SHA-256 of the weight files by name, and how the teacher came
    to be.
    """

    architecture: Architecture
    digests: dict[str, str]
    training: dict[str, Any]

    @property
    def blocks(self) -> list[tuple[str, int]]:
        """(name, channels) of every synthesis block, in order."""
        return [
            (f"b{r}", self.architecture.num_channels(r))
            for r in self.architecture.block_resolutions
        ]

    def to_json(self) -> str:
        """Content of `teacher.json`; the block table is there for human readers."""
        content = asdict(self)
        content["family"] = "stylegan2"
        content["blocks"] = [
            {"name": name, "num_channels": channels} for name, channels in self.blocks
        ]
        return json.dumps(content, indent=2, sort_keys=True) + "\n"


def read_teacher_info(folder: Path) -> TeacherInfo:
    """Description of the teacher in `folder`, whose generator is checked to be the one described.

    Raises:
        UserError: naming the file that is missing, damaged or of another kind.
    """
    path = folder / TEACHER_FILE
    remedy = "name a teacher with teacher.checkpoint=…, or train one with `make teacher`"
    if not path.exists():
        raise UserError(f"{path}: no teacher here; {remedy}")
    try:
        info = TypeAdapter(TeacherInfo).validate_json(path.read_bytes())
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        field = ".".join(map(str, problem["loc"]))
        raise UserError(f"{path}: damaged ({field}: {problem['msg']}); {remedy}") from None
    check_digest(folder, info, GENERATOR_FILE)
    return info


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

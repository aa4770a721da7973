"""Golden checkpoints of the reference implementations, imported, and what those compute of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pipeline.teacher.checkpoint import load_generator
from pipeline.teacher.description import TeacherInfo
from pipeline.teacher.features import captured, pool
from pipeline.teacher.importing.checkpoint import import_teacher
from pipeline.teacher.interface import GeneratorOutput, Noise, TeacherGenerator
from tests.support.golden_networks import GOLDEN, TOLERANCE, read_golden


@dataclass(frozen=True)
class Golden:
    """A checkpoint as a teacher."""

    folder: Path
    info: TeacherInfo
    generator: TeacherGenerator
    wanted: Mapping[str, np.ndarray]

    def render(self, noise: Noise = "none") -> GeneratorOutput:
        """Of the golden latents."""
        output: GeneratorOutput = self.generator(torch.from_numpy(self.wanted["z"]), noise)
        return output

    def assert_pooled_features(self, noise: Noise = "none") -> None:
        """All that the reference has, whether they are blocks or not."""
        names = [n.removeprefix("pooled.") for n in self.wanted if n.startswith("pooled.")]
        assert names
        with captured(self.generator.feature_root, names) as found:
            self.render(noise)
        for name in names:
            assert_close(pool(found[name]), self.wanted[f"pooled.{name}"])


def import_golden(name: str, folder: Path) -> Golden:
    """The golden file `name` as a teacher in `folder`."""
    info = import_teacher(GOLDEN / name, folder)
    return Golden(folder, info, load_generator(folder), read_golden(Path(name).stem))


def assert_close(found: Tensor | np.ndarray, wanted: Tensor | np.ndarray) -> None:
    assert tuple(found.shape) == tuple(wanted.shape)
    difference = np.abs(np.asarray(found) - np.asarray(wanted)).max()
    assert difference <= TOLERANCE * np.abs(np.asarray(wanted)).max()

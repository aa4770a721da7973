"""A run with a student, as its stages leave it but for the training, and images of one colour each,
whose embeddings can be computed again by themselves.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from safetensors.torch import save_file
from torch import nn

from pipeline.config.file import load_config
from pipeline.config.root import Config
from pipeline.embed.embedded import Embedded, embed
from pipeline.embed.images import pack_images
from pipeline.embed.subject import Subject, open_subject
from pipeline.real import stage
from pipeline.records.digests import file_digest
from pipeline.records.products import Student, require_real, student_file
from pipeline.records.record import write_record
from pipeline.records.spec import Spec
from pipeline.student.backbone import Backbone, Normalise, build_backbone, load_backbone
from tests.support.real_images import write_folder

STORED, VIEW = 16, 8
DIMS = 32
MEAN, STD = (0.3, 0.4, 0.5), (0.2, 0.25, 0.3)


@dataclass(frozen=True)
class StudentRun:
    """A config's file in a folder of its own."""

    folder: Path
    config_file: Path

    @property
    def config(self) -> Config:
        return load_config(self.config_file)

    def subject(self, *changes: str) -> Subject:
        return open_subject(self.config_file, changes)

    def embed(self, images: Path | str, *changes: str) -> Embedded:
        subject = self.subject(*changes)
        return embed(subject, pack_images(subject.config, str(images), changes))


def make_student_run(folder: Path, seed: int = 0, **real: Any) -> StudentRun:
    """Images are stored at 16 px, the student sees 8; it was never trained, but every residual
    branch counts. Shards of five images.
    """
    write_folder(folder / "own", {f"{n}.png": n for n in range(3)})
    path = folder / "tiny.yaml"
    path.write_text(
        yaml.safe_dump(
            {
                "name": "tiny",
                "paths": {"runs": str(folder / "runs"), "store": str(folder / "store")},
                "ray": {"pack_workers": 0},
                "hardware": {"device": "cpu"},
                "real": {
                    "train": str(folder / "own"),
                    "resolution": STORED,
                    "samples_per_shard": 5,
                    **real,
                },
                "train": {
                    "images": "real",
                    "method": {"name": "vicreg"},
                    "student": {"width": 4},
                    "view_size": VIEW,
                    "pixel_mean": list(MEAN),
                    "pixel_std": list(STD),
                },
            }
        )
    )
    run = StudentRun(folder, path)
    stage.run(run.config)
    _write_student(run.config, seed)
    return run


def _write_student(config: Config, seed: int) -> None:
    backbone = build_backbone(config.train.student, seed)
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.constant_(module.weight, 0.7)
    path = student_file(config)
    path.parent.mkdir(parents=True)
    save_file({name: value.contiguous() for name, value in backbone.state_dict().items()}, path)
    inputs = {"real": require_real(config).outputs.digests["train"]}
    spec = Spec.of("train", config.train, inputs)
    write_record(path.parent, spec, Student(file_digest(path), pool_size=0))


@torch.no_grad()
def expected_embeddings(config: Config, numbers: list[int]) -> np.ndarray:
    """Of the tiles with these numbers, float32 [n, D], by backbone and normalisation alone."""
    backbone: Backbone = load_backbone(config.train.student, student_file(config)).eval()
    colours = torch.tensor([[n % 256, n // 256, 77] for n in numbers], dtype=torch.uint8)
    pixels = colours[:, :, None, None].expand(-1, -1, VIEW, VIEW)
    found: torch.Tensor = backbone(Normalise(MEAN, STD)(pixels))
    return found.numpy()

"""A tiny run in a folder of its own, and the environment that processes get."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch
import yaml

from pipeline.teacher.architectures.stylegan2 import (
    StyleGAN2Architecture,
    StyleGAN2DiscriminatorArchitecture,
)
from pipeline.teacher.checkpoint import save_teacher
from pipeline.teacher.networks.discriminator import Discriminator
from pipeline.teacher.networks.stylegan2 import Generator

ROOT = Path(__file__).resolve().parents[2]
HIDDEN = ("RAY_ADDRESS", "RANK", "WORLD_SIZE", "LOCAL_RANK", "TORCHELASTIC_RUN_ID")
"""Variables of clusters and of those who start processes, which would change what commands do."""


@dataclass(frozen=True)
class Workspace:
    """A config file in a folder of its own."""

    folder: Path
    config: Path


def tars(store: Path) -> dict[str, bytes]:
    """Every shard under `store`, by its place there."""
    return {str(path.relative_to(store)): path.read_bytes() for path in store.rglob("*.tar")}


def environment() -> dict[str, str]:
    """This process's, without `HIDDEN`."""
    kept = {name: value for name, value in os.environ.items() if name not in HIDDEN}
    # one thread, as the tests' own process has: sums of floats depend on their number
    return {**kept, "COLUMNS": "200", "OMP_NUM_THREADS": "1"}


def make_teacher(folder: Path, *, resolution: int = 16, seed: int = 0) -> None:
    arch = StyleGAN2Architecture(
        resolution=resolution,
        z_dim=8,
        w_dim=8,
        num_mapping_layers=1,
        channel_base=64,
        channel_max=8,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        judge = Discriminator(StyleGAN2DiscriminatorArchitecture(resolution, 64, 8))
        save_teacher(folder, Generator(arch), judge, {"images_seen": 0})


def make_workspace(folder: Path) -> Workspace:
    """A random teacher of a few channels, the digits, 150 samples and a narrow student."""
    make_teacher(folder / "teacher")
    config = {
        "name": "tiny",
        "paths": {"store": str(folder / "store"), "runs": str(folder / "runs")},
        "ray": {"render_workers": 0, "study_workers": 0},
        "hardware": {"device": "cpu"},
        "real": {"source": "digits", "resolution": 16, "samples_per_shard": 500},
        "teacher": {"checkpoint": str(folder / "teacher")},
        "generate": {"num_samples": 150, "samples_per_shard": 50, "render_batch": 20},
        "train": {
            "epochs": 3,
            "global_batch": 256,
            "checkpoint_interval_s": 0,
            "student": {"width": 4, "embedding_dim": 16},
            "augment": {"flip_p": 0},
        },
        "eval": {"knn_k": 5, "seeds": [0, 1], "embedding_samples": 0},
    }
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(config))
    return Workspace(folder, path)

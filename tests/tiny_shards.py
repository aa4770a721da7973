"""Tiny real and teacher shards, written by the project's own writer, for tests that read them."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from pipeline.config import StudentConfig, TrainConfig
from pipeline.generate.plan import PoolRecipe
from pipeline.generate.render import render_shard
from pipeline.teacher.architecture import DiscriminatorArchitecture, StyleGAN2Architecture
from pipeline.teacher.description import TeacherInfo
from pipeline.teacher.features import list_features
from pipeline.teacher.stylegan2 import Generator
from pipeline.train.data import TrainingShards
from shards.manifest import Manifest, write_manifest
from shards.reader import ShardReader
from shards.schema import encode_meta, real_schema, teacher_schema
from shards.writer import shard_name, write_shard

RESOLUTION = 16
NUM_CLASSES = 4
ARCHITECTURE = StyleGAN2Architecture(
    resolution=RESOLUTION,
    z_dim=8,
    w_dim=12,
    num_mapping_layers=2,
    channel_base=128,
    channel_max=12,
)
DISCRIMINATOR = DiscriminatorArchitecture(RESOLUTION, 128, 12, mbstd_group_size=4)
BLOCKS = [(f"synthesis.b{r}", ARCHITECTURE.num_channels(r)) for r in ARCHITECTURE.block_resolutions]
SCHEMA = teacher_schema(RESOLUTION, BLOCKS, ARCHITECTURE.w_dim)
TRAIN_CONFIG = TrainConfig(
    seed=3,
    epochs=4,
    global_batch=16,
    student=StudentConfig(width=8, projector_layers=2, embedding_dim=16),
    checkpoint_interval_s=0,
)


def teacher_info() -> TeacherInfo:
    """Description of the teacher whose generator is `random_generator()`."""
    generator = random_generator()
    digests = {"generator.safetensors": "a" * 64}
    return TeacherInfo(ARCHITECTURE, None, list_features(generator), digests, {})


def random_generator(seed: int = 0) -> Generator:
    """A frozen generator whose noise inputs and truncation do something, unlike a fresh one's."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        generator = Generator(ARCHITECTURE)
        generator.mapping.w_avg.normal_()
        for name, parameter in generator.named_parameters():
            if name.endswith("noise_strength"):
                parameter.data.uniform_(0.2, 0.5)
    return generator.eval().requires_grad_(False)


def pool_recipe(
    *, seed: int = 5, samples_per_shard: int = 8, render_batch: int = 3, noise: str = "random"
) -> PoolRecipe:
    return PoolRecipe(
        generator_sha256="0" * 64,
        architecture=asdict(ARCHITECTURE),
        seed=seed,
        truncation_psi=1.0,
        truncation_cutoff=None,
        noise=noise,
        features=tuple(name for name, _ in BLOCKS),
        samples_per_shard=samples_per_shard,
        render_batch=render_batch,
    )


def real_arrays(num_samples: int, seed: int = 0) -> dict[str, np.ndarray]:
    """The columns of random real samples; the class shows in the brightness."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, NUM_CLASSES, num_samples)
    images = generator.integers(0, 128, (num_samples, 3, RESOLUTION, RESOLUTION))
    return {
        "image": (images + 30 * labels[:, None, None, None]).astype(np.uint8),
        "label": labels.astype(np.int64),
        "meta": encode_meta({"index": i, "label": int(label)} for i, label in enumerate(labels)),
    }


def write_real_shards(
    folder: Path, num_samples: int = 40, samples_per_shard: int = 16, seed: int = 0
) -> Manifest:
    schema = real_schema(RESOLUTION)
    arrays = real_arrays(num_samples, seed)
    shards = [
        write_shard(
            folder / shard_name(index),
            schema,
            start,
            [{name: array[start : start + samples_per_shard] for name, array in arrays.items()}],
        )
        for index, start in enumerate(range(0, num_samples, samples_per_shard))
    ]
    manifest = Manifest(schema, tuple(shards))
    write_manifest(folder, manifest)
    return manifest


def write_teacher_shards(folder: Path, num_shards: int = 5, seed: int = 0) -> Manifest:
    """`num_shards` shards of 8 samples each."""
    generator = random_generator(seed)
    shards = [
        render_shard(generator, pool_recipe(), SCHEMA, folder, index) for index in range(num_shards)
    ]
    manifest = Manifest(SCHEMA, tuple(shards))
    write_manifest(folder, manifest)
    return manifest


def open_training_shards(folder: Path) -> TrainingShards:
    """Readers of what the fixture `training_folder` wrote."""
    return TrainingShards(
        real=ShardReader(folder / "real", remedy="write them"),
        synthetic=ShardReader(folder / "pool", remedy="write them"),
    )

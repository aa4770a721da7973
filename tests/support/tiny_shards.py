"""Tiny real and teacher shards, written by the project's own writer, for tests that read them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch

from pipeline.config.student import StudentConfig
from pipeline.config.train import TrainConfig
from pipeline.generate.plan import PoolRecipe
from pipeline.generate.render import RenderedShard, render_shard
from pipeline.teacher.architectures.stylegan2 import (
    StyleGAN2Architecture,
    StyleGAN2DiscriminatorArchitecture,
)
from pipeline.teacher.description import TeacherInfo
from pipeline.teacher.features import list_features
from pipeline.teacher.networks.stylegan2 import Generator
from pipeline.train.data import TrainingShards
from shards.manifest import Manifest, ShardInfo, shard_name, write_manifest
from shards.pool import IMAGES, PoolReader
from shards.reader import ShardReader
from shards.schema import (
    Schema,
    encode_meta,
    feature_schema,
    feature_set_name,
    real_schema,
    synthetic_schema,
)
from shards.storage import Folder
from shards.writer import write_shard

REMEDY = "run `make it` again"
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
DISCRIMINATOR = StyleGAN2DiscriminatorArchitecture(RESOLUTION, 128, 12, mbstd_group_size=4)
BLOCKS = [(f"synthesis.b{r}", ARCHITECTURE.num_channels(r)) for r in ARCHITECTURE.block_resolutions]
FEATURES = tuple(name for name, _ in BLOCKS)
FEATURE_SET = feature_set_name(FEATURES, "float16")
SCHEMAS = {
    IMAGES: synthetic_schema(RESOLUTION, ARCHITECTURE.w_dim),
    FEATURE_SET: feature_schema(BLOCKS),
}
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
    schema, place = real_schema(RESOLUTION), Folder.at(folder)
    arrays = real_arrays(num_samples, seed)
    shards = [
        write_shard(
            place,
            shard_name(index),
            schema,
            start,
            [{name: array[start : start + samples_per_shard] for name, array in arrays.items()}],
        )
        for index, start in enumerate(range(0, num_samples, samples_per_shard))
    ]
    manifest = Manifest(schema, tuple(shards))
    write_manifest(place, manifest)
    return manifest


def write_pool(folder: Path, num_shards: int = 5, seed: int = 0) -> None:
    """`num_shards` shards of 8 samples each, of the images and of their block features."""
    generator, place = random_generator(seed), Folder.at(folder)
    rendered = [
        render_shard(generator, pool_recipe(), place, SCHEMAS, index) for index in range(num_shards)
    ]
    list_rendered(place, SCHEMAS, rendered)


def list_rendered(
    folder: Folder, schemas: Mapping[str, Schema], rendered: Iterable[RenderedShard]
) -> None:
    """Make `rendered` all that the manifests of these sets of a pool list."""
    rendered = list(rendered)
    for name, schema in schemas.items():
        shards = tuple(shard.shards[name] for shard in rendered)
        write_manifest(folder / name, Manifest(schema, shards))


def undated(shard: ShardInfo) -> ShardInfo:
    """A row of the manifest but for the time: what must be the same every time."""
    return replace(shard, written_at=0)


def open_reader(folder: Path, num_samples: int | None = None) -> ShardReader:
    return ShardReader(folder, remedy=REMEDY, num_samples=num_samples)


def open_pool(folder: Path) -> PoolReader:
    return PoolReader(folder, [FEATURE_SET], remedy=REMEDY)


def open_training_shards(folder: Path) -> TrainingShards:
    """Readers of what the fixture `training_folder` wrote."""
    return TrainingShards(
        real=open_reader(folder / "real"),
        synthetic=open_pool(folder / "pool"),
        view_size=RESOLUTION,
        features=FEATURES,
    )

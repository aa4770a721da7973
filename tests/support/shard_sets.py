"""Small sets of shards with columns of a test's choice, written by the project's own writer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from shards.claims import Claims
from shards.manifest import Manifest, shard_name, write_manifest
from shards.schema import (
    Codec,
    Column,
    Schema,
    encode_meta,
    feature_schema,
    feature_set_name,
    image_column,
    synthetic_schema,
)
from shards.storage import Folder
from shards.writer import write_shard

RESOLUTION = 32
W_DIM = 6
REMEDY = "run `make it` again"

INDEX_SCHEMA = Schema((Column("index", "<i8", ()),))
"""Samples that are their own index: the smallest there are."""


def write_set(
    folder: Folder, schema: Schema, arrays: Mapping[str, np.ndarray], sizes: Sequence[int]
) -> Manifest:
    """Shards of the given sizes, and the manifest that lists them."""
    shards, start = [], 0
    for shard_index, size in enumerate(sizes):
        batch = {name: array[start : start + size] for name, array in arrays.items()}
        shards.append(write_shard(folder, shard_name(shard_index), schema, start, [batch]))
        start += size
    manifest = Manifest(schema, tuple(shards))
    write_manifest(folder, manifest)
    return manifest


def write_indices(folder: Folder, sizes: Sequence[int]) -> Manifest:
    """Shards of `INDEX_SCHEMA`."""
    return write_set(folder, INDEX_SCHEMA, {"index": np.arange(sum(sizes))}, sizes)


def smooth_images(num_samples: int, seed: int = 0) -> np.ndarray:
    """uint8 [n, 3, R, R] that a lossy codec keeps well: slopes of random direction and level."""
    generator = np.random.default_rng(seed)
    slopes = generator.uniform(-2, 2, (num_samples, 3, 2, 1, 1))
    level = generator.uniform(80, 170, (num_samples, 3, 1, 1))
    across = np.arange(RESOLUTION) - RESOLUTION / 2
    images: np.ndarray = level + slopes[:, :, 0] * across + slopes[:, :, 1] * across[:, None]
    return images.round().astype(np.uint8)


def noisy_images(num_samples: int, seed: int = 0) -> np.ndarray:
    """uint8 [n, 3, R, R] of which each second one is flat: their files differ much in size."""
    generator = np.random.default_rng(seed)
    images = generator.integers(0, 256, (num_samples, 3, RESOLUTION, RESOLUTION), dtype=np.uint8)
    images[::2] = images[::2, :, :1, :1]
    return images


def image_arrays(images: np.ndarray, seed: int = 0) -> dict[str, np.ndarray]:
    """`images` with the other columns of a pool's images."""
    w = np.random.default_rng(seed + 1).standard_normal((len(images), W_DIM)).astype(np.float16)
    meta = encode_meta({"index": index} for index in range(len(images)))
    return {"image": images, "meta": meta, "w": w}


def write_images(
    folder: Folder,
    images: np.ndarray,
    sizes: Sequence[int],
    codec: Codec = "npy",
    quality: int | None = None,
) -> Manifest:
    """The images of a pool."""
    schema = synthetic_schema(RESOLUTION, W_DIM, codec, quality)
    return write_set(folder, schema, image_arrays(images), sizes)


def feature_values(names: Mapping[str, int], num_samples: int) -> np.ndarray:
    """float16 [n, Σ C]: what each of the features is, whatever set it is in."""
    parts = [
        np.random.default_rng([len(name), *name.encode()]).standard_normal((num_samples, channels))
        for name, channels in names.items()
    ]
    return np.concatenate(parts, axis=1).astype(np.float16)


def write_features(pool: Folder, names: Mapping[str, int], sizes: Sequence[int]) -> str:
    """A set of features (name -> channels) of a pool; returns the set's name."""
    name = feature_set_name(names, "float16")
    values = feature_values(names, sum(sizes))
    write_set(pool / name, feature_schema(names.items()), {"features": values}, sizes)
    return name


def encoded_in_the_middle_schema(codec: Codec, quality: int | None = None) -> Schema:
    """An encoded image with columns of fixed size before and behind it."""
    return Schema(
        (
            Column("aaa", "<f4", (3,)),
            image_column(RESOLUTION, codec, quality),
            Column("zzz", "<i8", ()),
        )
    )


def of_others(claims: Claims) -> set[int]:
    """Shards that other live runs have."""
    return {index for claimed in claims.list_others().values() for index in claimed}

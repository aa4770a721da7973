"""One shard spec -> one shard: draws latents and noise, runs the generator, pools, writes the tar.

Knows no Ray: `stage.py` calls `render_shard` in Ray tasks or in this process, with the same bytes
as result.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pipeline.generate.plan import PoolRecipe
from pipeline.seeding import numpy_generator
from pipeline.teacher.features import pool_features
from pipeline.teacher.stylegan2 import Generator, NoiseMode
from shards.manifest import ShardInfo
from shards.schema import Schema, encode_meta
from shards.writer import shard_name, write_shard


def render_shard(
    generator: Generator, recipe: PoolRecipe, schema: Schema, folder: Path, shard_index: int
) -> ShardInfo:
    """Render samples `shard_index * n` … and write them to `folder`.

    Raises:
        ValueError: if a feature is not finite in float16.
    """
    start = shard_index * recipe.samples_per_shard
    stop = start + recipe.samples_per_shard
    batches = (
        render_batch(generator, recipe, np.arange(first, min(first + recipe.render_batch, stop)))
        for first in range(start, stop, recipe.render_batch)
    )
    with _repeatable_arithmetic():
        return write_shard(folder / shard_name(shard_index), schema, start, batches)


@torch.inference_mode()
def render_batch(
    generator: Generator, recipe: PoolRecipe, indices: np.ndarray
) -> dict[str, np.ndarray]:
    """Columns of the samples `indices` [n]: image uint8 [n, 3, R, R], features and w float16,
    meta.
    """
    device = generator.mapping.w_avg.device
    z, noise = draw_inputs(generator, recipe, indices)
    ws = generator.mapping(z.to(device), recipe.truncation_psi)
    output = generator.synthesis(
        ws, [map_.to(device) for map_ in noise] if not isinstance(noise, str) else noise
    )
    features = pool_features(output.features).half()
    if not features.isfinite().all():
        raise ValueError(
            f"features of samples {indices[0]}-{indices[-1]} are not finite in float16"
        )
    image = (output.image.clamp(-1, 1) * 127.5 + 127.5).round().to(torch.uint8)
    return {
        "image": image.cpu().numpy(),
        "features": features.cpu().numpy(),
        "w": ws[:, 0].half().cpu().numpy(),
        "meta": encode_meta({"index": int(index), "seed": recipe.seed} for index in indices),
    }


def draw_inputs(
    generator: Generator, recipe: PoolRecipe, indices: np.ndarray
) -> tuple[Tensor, list[Tensor] | NoiseMode]:
    """`z` [n, z_dim] and the noise maps, each sample's from its own counter (seed, index)."""
    z_dim = generator.arch.z_dim
    resolutions = generator.synthesis.noise_resolutions if recipe.noise == "random" else []
    sizes = [z_dim, *(r * r for r in resolutions)]
    draws = np.stack(
        [
            numpy_generator(recipe.seed, "generate", int(index)).standard_normal(
                sum(sizes), dtype=np.float32
            )
            for index in indices
        ]
    )
    z, *maps = torch.from_numpy(draws).split(sizes, 1)
    if recipe.noise != "random":
        mode: NoiseMode = "const" if recipe.noise == "const" else "none"
        return z, mode
    return z, [map_.reshape(-1, 1, r, r) for map_, r in zip(maps, resolutions, strict=True)]


@contextmanager
def _repeatable_arithmetic() -> Iterator[None]:
    """One CPU thread, no TF32: a shard's bytes must not depend on where it is rendered.

    The order of float sums depends on the number of threads, and a GPU's default precision is not
    the float32 that the recipe names.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.backends.cudnn.flags(
            enabled=True, benchmark=False, deterministic=True, allow_tf32=False
        ):
            yield
    finally:
        torch.set_num_threads(threads)

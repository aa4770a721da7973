"""One shard spec -> one shard: draws latents and noise, runs the generator, pools, writes the tar.

Knows no Ray: `stage.py` calls `render_shard` in Ray tasks or in this process, with the same bytes
as result.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pipeline.generate.plan import PoolRecipe
from pipeline.seeding import numpy_generator
from pipeline.teacher.description import W_FEATURE
from pipeline.teacher.features import captured, pool_features, select
from pipeline.teacher.interface import Noise, NoiseMode, TeacherGenerator
from shards.manifest import ShardInfo
from shards.schema import Schema, encode_meta
from shards.writer import shard_name, write_shard

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
"""Torch's names of the recipe's precisions."""


def render_shard(
    generator: TeacherGenerator, recipe: PoolRecipe, schema: Schema, folder: Path, shard_index: int
) -> ShardInfo:
    """Render samples `shard_index * n` … and write them to `folder`.

    Raises:
        ValueError: if a feature is not finite in float16.
    """
    if recipe.features != tuple(block.name for block in schema.features):
        raise ValueError("the schema's features are not the recipe's")
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
    generator: TeacherGenerator, recipe: PoolRecipe, indices: np.ndarray
) -> dict[str, np.ndarray]:
    """Columns of the samples `indices` [n]: image uint8 [n, 3, R, R], features and w float16,
    meta.
    """
    device = next(generator.parameters()).device
    inputs = draw_inputs(generator, recipe, indices)
    noise, labels = inputs.noise, inputs.one_hot(generator.arch.num_classes)
    modules = [name for name in recipe.features if name != W_FEATURE]
    with captured(generator.feature_root, modules) as found:
        output = generator(
            inputs.z.to(device),
            noise if isinstance(noise, str) else [map_.to(device) for map_ in noise],
            labels=None if labels is None else labels.to(device),
            truncation_psi=recipe.truncation_psi,
            truncation_cutoff=recipe.truncation_cutoff,
        )
    features = pool_features(select(found, output.ws, recipe.features)).half()
    if not features.isfinite().all():
        raise ValueError(
            f"features of samples {indices[0]}-{indices[-1]} are not finite in float16"
        )
    image = (output.image.clamp(-1, 1) * 127.5 + 127.5).round().to(torch.uint8)
    if image.shape[1] == 1:  # shards hold RGB
        image = image.expand(-1, 3, -1, -1)
    classes = inputs.classes
    return {
        "image": image.cpu().numpy(),
        "features": features.cpu().numpy(),
        "w": output.ws[:, 0].half().cpu().numpy(),
        "meta": encode_meta(
            {"index": int(index), "seed": recipe.seed}
            | ({} if classes is None else {"label": int(classes[row])})
            for row, index in enumerate(indices)
        ),
    }


@dataclass(frozen=True)
class Inputs:
    """Random inputs of n samples: `z` [n, z_dim], noise maps [n, 1, r, r] or a mode, `classes`
    int64 [n] for a conditional teacher.
    """

    z: Tensor
    noise: Noise
    classes: Tensor | None

    def one_hot(self, num_classes: int) -> Tensor | None:
        """[n, num_classes] float32, None without classes."""
        return None if self.classes is None else torch.eye(num_classes)[self.classes]


def draw_inputs(generator: TeacherGenerator, recipe: PoolRecipe, indices: np.ndarray) -> Inputs:
    """Latents, noise and, for a conditional teacher, classes (uniform), each sample's from its own
    counter (seed, index).
    """
    arch = generator.arch
    resolutions = generator.noise_resolutions if recipe.noise == "random" else []
    sizes = [arch.z_dim, *(r * r for r in resolutions)]
    draws, classes = [], []
    for index in indices:
        counter = numpy_generator(recipe.seed, "generate", int(index))
        draws.append(counter.standard_normal(sum(sizes), dtype=np.float32))
        if arch.num_classes:  # from a counter of its own, whatever noise there is
            labels = numpy_generator(recipe.seed, "generate/label", int(index))
            classes.append(int(labels.integers(arch.num_classes)))
    z, *maps = torch.from_numpy(np.stack(draws)).split(sizes, 1)
    noise: Noise = [map_.reshape(-1, 1, r, r) for map_, r in zip(maps, resolutions, strict=True)]
    if recipe.noise != "random":
        mode: NoiseMode = "const" if recipe.noise == "const" else "none"
        noise = mode
    return Inputs(z, noise, torch.tensor(classes) if classes else None)


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

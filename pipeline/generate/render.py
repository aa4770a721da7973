"""One shard spec -> one shard of the images, and of every set of features that lacks it: draws
latents and noise, runs the generator, pools, writes the tars.

Knows no Ray: `stage.py` calls `render_shard` in Ray tasks or in this process, with the same bytes
as result. A thread writes while the next batch is rendered.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pipeline.generate.plan import PoolRecipe
from pipeline.seeding import numpy_generator
from pipeline.teacher.description import W_FEATURE
from pipeline.teacher.features import captured, pool_features, select
from pipeline.teacher.interface import Noise, NoiseMode, TeacherGenerator
from shards.manifest import ShardInfo, shard_name
from shards.schema import Schema, encode_meta
from shards.storage import Folder
from shards.writer import writing_shard

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
"""Torch's names of the recipe's precisions."""
_MAX_PENDING = 2  # batches that wait to be written

Columns = dict[str, np.ndarray]


@dataclass(frozen=True)
class RenderedShard:
    """What `render_shard` wrote: one manifest row for each set, and where the time went."""

    index: int
    shards: dict[str, ShardInfo]
    seconds: float
    waiting_s: float
    """Of these, spent not rendering: waiting for the writer, or for the storage at the end."""


def render_shard(
    generator: TeacherGenerator,
    recipe: PoolRecipe,
    folder: Folder,
    schemas: Mapping[str, Schema],
    shard_index: int,
) -> RenderedShard:
    """Render samples `shard_index * n` … and write the sets `schemas` (name -> columns) of them to
    the pool in `folder`.

    Raises:
        ValueError: if a feature is not finite in its type.
    """
    start = shard_index * recipe.samples_per_shard
    stop = start + recipe.samples_per_shard
    began_at, rendering_s = time.perf_counter(), 0.0
    with (
        _repeatable_arithmetic(),
        ExitStack() as stack,
        ThreadPoolExecutor(1, "writer") as writer,  # ended first: no write outlives its file
    ):
        name = shard_name(shard_index)
        pending = {
            set_name: stack.enter_context(writing_shard(folder / set_name, name, schema, start))
            for set_name, schema in schemas.items()
        }

        def write(rendered: dict[str, Columns]) -> None:
            for set_name, columns in rendered.items():
                pending[set_name].writer.write(columns)

        writes: list[Future[None]] = []
        for first in range(start, stop, recipe.render_batch):
            indices = np.arange(first, min(first + recipe.render_batch, stop))
            since = time.perf_counter()
            rendered = render_batch(generator, recipe, schemas, indices)
            rendering_s += time.perf_counter() - since
            for earlier in writes[:-_MAX_PENDING]:
                earlier.result()
            writes = [*writes[-_MAX_PENDING:], writer.submit(write, rendered)]
        for last in writes:
            last.result()
    infos = {set_name: shard.info for set_name, shard in pending.items()}
    seconds = time.perf_counter() - began_at
    return RenderedShard(shard_index, infos, seconds, seconds - rendering_s)


@torch.inference_mode()
def render_batch(
    generator: TeacherGenerator,
    recipe: PoolRecipe,
    schemas: Mapping[str, Schema],
    indices: np.ndarray,
) -> dict[str, Columns]:
    """Columns of the samples `indices` [n] for every set of `schemas`: image uint8 [n, 3, R, R], w
    float16 and meta, or features.
    """
    device = next(generator.parameters()).device
    inputs = draw_inputs(generator, recipe, indices)
    noise, labels = inputs.noise, inputs.one_hot(generator.arch.num_classes)
    names = {block.name for schema in schemas.values() for block in schema.features}
    with captured(generator.feature_root, sorted(names - {W_FEATURE})) as found:
        output = generator(
            inputs.z.to(device),
            noise if isinstance(noise, str) else [map_.to(device) for map_ in noise],
            labels=None if labels is None else labels.to(device),
            truncation_psi=recipe.truncation_psi,
            truncation_cutoff=recipe.truncation_cutoff,
        )

    def columns(schema: Schema) -> Columns:
        if not schema.features:
            meta = _describe_samples(recipe, inputs, indices)
            return {"image": _to_pixels(output.image), "w": _half(output.ws[:, 0]), "meta": meta}
        wanted = [block.name for block in schema.features]
        pooled = pool_features(select(found, output.ws, wanted)).cpu().numpy()
        features = pooled.astype(schema.column("features").dtype)
        if not np.isfinite(features).all():
            raise ValueError(
                f"features of samples {indices[0]}-{indices[-1]} are not finite in {features.dtype}"
            )
        return {"features": features}

    with np.errstate(over="ignore"):  # an overflow is reported above
        return {name: columns(schema) for name, schema in schemas.items()}


def _to_pixels(image: Tensor) -> np.ndarray:
    pixels = (image.clamp(-1, 1) * 127.5 + 127.5).round().to(torch.uint8)
    if pixels.shape[1] == 1:  # shards hold RGB
        pixels = pixels.expand(-1, 3, -1, -1)
    result: np.ndarray = pixels.cpu().numpy()
    return result


def _half(values: Tensor) -> np.ndarray:
    result: np.ndarray = values.half().cpu().numpy()
    return result


def _describe_samples(recipe: PoolRecipe, inputs: Inputs, indices: np.ndarray) -> np.ndarray:
    classes = inputs.classes
    return encode_meta(
        {"index": int(index), "seed": recipe.seed}
        | ({} if classes is None else {"label": int(classes[row])})
        for row, index in enumerate(indices)
    )


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

"""`python -m pipeline inspect-teacher FOLDER`: what a teacher computes from given latents.

The names of the arrays are those in which the reference implementation's outputs are kept, so that
two implementations can be compared array by array.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.samples.seeding import torch_generator
from pipeline.teacher.checkpoint import load_discriminator, load_generator
from pipeline.teacher.description import DISCRIMINATOR_FILE, read_teacher_info
from pipeline.teacher.features import captured, pool
from pipeline.teacher.interface import (
    GeneratorOutput,
    Noise,
    TeacherDiscriminator,
    TeacherGenerator,
)
from shards.errors import UserError


@torch.inference_mode()
def inspect_latents(
    folder: Path,
    z: np.ndarray,
    *,
    labels: np.ndarray | None = None,
    noise: str = "const",
    truncation_psi: float = 1.0,
    truncation_cutoff: int | None = None,
    seed: int = 0,
    factory: str | None = None,
) -> dict[str, np.ndarray]:
    """Everything the teacher in `folder` makes of `z`, in one batch, in float32.

    The batch matters to the logits: a discriminator compares the samples of a minibatch.

    Args:
        folder: of the teacher.
        z: [N, z_dim].
        labels: class indices [N], or one-hot rows [N, num_classes]; for teachers with classes.
        noise: `const` (maps stored in the checkpoint), `none`, or `random`, drawn from `seed`.
        truncation_psi: see `TeacherGenerator.forward`, like `truncation_cutoff`.
        truncation_cutoff: number of layers to truncate.
        seed: of random noise.
        factory: code of one's own module.

    Returns:
        float32 arrays: `z`, `ws` [N, num_ws, w_dim], `image` [N, C, R, R] (not clamped),
        `pooled.<block>` [N, C_l]; and with a discriminator, which is shown `image`, `logits`
        [N, n], `discriminator.<block>` [N, C] pooled, the last feature among them.

    Raises:
        UserError: if latents or labels do not fit the teacher.
    """
    generator = load_generator(folder, factory)
    arch = generator.arch
    latents = _as_floats(z, arch.z_dim, "latents")
    given = _as_labels(labels, len(latents), arch.num_classes)
    with captured(generator.feature_root, generator.blocks) as features:
        try:
            output = generator(
                latents,
                _noise(generator, noise, len(latents), seed),
                labels=given,
                truncation_psi=truncation_psi,
                truncation_cutoff=truncation_cutoff,
            )
        except ValueError as error:
            raise UserError(f"{folder}: {error}") from None
    arrays = {"z": latents, "ws": output.ws, "image": output.image}
    arrays |= {f"pooled.{name}": pool(features[name]) for name in generator.blocks}
    if (
        read_teacher_info(folder).discriminator is not None
        and (folder / DISCRIMINATOR_FILE).exists()
    ):
        arrays |= _judge(load_discriminator(folder), output, given)
    return {name: value.float().numpy().copy() for name, value in arrays.items()}


def _judge(
    discriminator: TeacherDiscriminator, output: GeneratorOutput, labels: Tensor | None
) -> dict[str, Tensor]:
    names = [*discriminator.blocks, discriminator.last]
    with captured(discriminator.feature_root, names) as found:
        logits = discriminator.judge(output, labels)
    features = {f"discriminator.{name}": pool(feature) for name, feature in found.items()}
    return {"logits": logits, **features}


def _noise(generator: TeacherGenerator, mode: str, batch: int, seed: int) -> Noise:
    if mode == "const" or mode == "none":
        return "const" if mode == "const" else "none"
    if mode != "random":
        raise UserError(f"--noise: must be const, none or random, got {mode}")
    draws = torch_generator(seed, "inspect/noise")
    return [torch.randn(batch, 1, r, r, generator=draws) for r in generator.noise_resolutions]


def _as_floats(values: Any, width: int, what: str) -> Tensor:
    array = np.asarray(values)
    if array.ndim != 2 or array.shape[1] != width or array.dtype.kind not in "fiu":
        raise UserError(
            f"--{what}: expected numbers [N, {width}], got {array.dtype} {list(array.shape)}"
        )
    if not len(array):
        raise UserError(f"--{what}: the file has no rows; give at least one")
    return torch.from_numpy(array.astype(np.float32))


def _as_labels(labels: np.ndarray | None, batch: int, num_classes: int) -> Tensor | None:
    if labels is None:
        if num_classes:
            raise UserError(
                f"--labels: this teacher has {num_classes} classes; give a .npy of class indices "
                "or one-hot rows"
            )
        return None
    if not num_classes:
        raise UserError("--labels: this teacher has no classes; leave them out")
    array = np.asarray(labels)
    if array.ndim == 1 and array.dtype.kind in "iu":
        if array.size and not 0 <= array.min() <= array.max() < num_classes:
            raise UserError(f"--labels: class indices must be from 0 to {num_classes - 1}")
        array = np.eye(num_classes, dtype=np.float32)[array]
    rows = _as_floats(array, num_classes, "labels")
    if len(rows) != batch:
        raise UserError(f"--labels: {len(rows)} rows for {batch} latents; give one for each")
    return rows

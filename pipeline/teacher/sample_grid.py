"""Sample grids: what a generator draws, as one PNG."""

from __future__ import annotations

import io
from pathlib import Path

import torch
from torchvision.utils import save_image

from pipeline.samples.seeding import torch_generator
from pipeline.teacher.interface import TeacherGenerator
from shards.atomic import write_atomic

MAX_SIDE = 2048


@torch.no_grad()
def save_samples(
    generator: TeacherGenerator, path: Path, *, rows: int = 10, columns: int = 16, seed: int = 0
) -> None:
    """Write a grid of samples (stored noise maps, no truncation) as PNG.

    Large images get a smaller grid, at most `MAX_SIDE` pixels wide. With classes, each row is one
    class, the first ones if there are more than rows.
    """
    arch = generator.arch
    per_side = max(1, MAX_SIDE // (arch.resolution + 1))
    rows, columns = min(rows, per_side), min(columns, per_side)
    device = next(generator.parameters()).device
    draws = torch_generator(seed, "teacher/grid")
    z = torch.randn(rows * columns, arch.z_dim, generator=draws).to(device)
    labels = None
    if arch.num_classes:
        classes = torch.arange(rows).repeat_interleave(columns) % arch.num_classes
        labels = torch.eye(arch.num_classes, device=device)[classes.to(device)]
    images = []
    for first in range(0, len(z), columns):
        part = slice(first, first + columns)
        row = generator(z[part], "const", labels=None if labels is None else labels[part])
        images.append(row.image.cpu())
    buffer = io.BytesIO()
    save_image(
        torch.cat(images),
        buffer,
        nrow=columns,
        padding=1,
        normalize=True,
        value_range=(-1, 1),
        format="png",
    )
    write_atomic(path, buffer.getvalue())

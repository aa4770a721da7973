"""What samples are made from: latents, noise and, for a conditional teacher, classes.

Two ways to draw them. A pool's come from a counter of each sample's own, on the CPU, and are the
same on every machine (`draw_inputs`). Those of a training that renders on a GPU come from that
GPU's generator and never wait for it (`draw_on_device`): other samples, of the same distribution.
Neighbours: `rendered.py` renders them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from pipeline.samples.seeding import NumpyStreams, torch_generator
from pipeline.teacher.description import Sampling
from pipeline.teacher.interface import Noise, NoiseMode, TeacherGenerator

DEVICE_BLOCK = 64
"""Samples that a device draws together: a block of them is one stream."""


@dataclass(frozen=True)
class GeneratorInputs:
    """Random inputs of n samples: `z` [n, z_dim], noise maps [n, 1, r, r] or a mode, `classes`
    int64 [n] for a conditional teacher.
    """

    z: Tensor
    noise: Noise
    classes: Tensor | None

    def one_hot(self, num_classes: int) -> Tensor | None:
        """[n, num_classes] float32 beside the classes, None without."""
        if self.classes is None:
            return None
        return torch.eye(num_classes, device=self.classes.device)[self.classes]


@dataclass(frozen=True)
class InputSpec:
    """Which numbers make a sample: their seed, and their sizes."""

    sampling: Sampling
    z_dim: int
    noise_resolutions: tuple[int, ...]
    """Side of every random noise map; none where noise is not random."""
    num_classes: int
    """Classes that the teacher has."""

    @classmethod
    def of(cls, generator: TeacherGenerator, sampling: Sampling) -> InputSpec:
        """That of a sample of `generator`."""
        sides = generator.noise_resolutions if sampling.noise == "random" else []
        return cls(sampling, generator.arch.z_dim, tuple(sides), generator.arch.num_classes)

    @property
    def num_drawn_classes(self) -> int:
        """Classes that samples have: all of the teacher's, or those chosen."""
        chosen = self.sampling.classes
        return self.num_classes if chosen is None else len(chosen)

    @property
    def num_noise(self) -> int:
        """Numbers of a sample's noise."""
        return sum(side * side for side in self.noise_resolutions)

    def join(self, z: Tensor, noise: Tensor, classes: Tensor | None) -> GeneratorInputs:
        """Inputs of `z` [n, z_dim] and all noise maps end to end, `noise` [n, num_noise]."""
        if self.sampling.noise != "random":
            mode: NoiseMode = "const" if self.sampling.noise == "const" else "none"
            return GeneratorInputs(z, mode, classes)
        maps = noise.split([side * side for side in self.noise_resolutions], 1)
        shaped = zip(maps, self.noise_resolutions, strict=True)
        return GeneratorInputs(
            z, [map_.reshape(-1, 1, side, side) for map_, side in shaped], classes
        )


class DrawnInputs:
    """Memory for the inputs of the samples `indices` [n], and the drawing of them, in parts; if it
    `is_pinned`, page-locked, a GPU copies from it by itself.
    """

    def __init__(self, spec: InputSpec, indices: np.ndarray, *, is_pinned: bool = False) -> None:
        self._spec = spec
        self._indices = indices
        shape = (len(indices), spec.z_dim + spec.num_noise)
        self._numbers = torch.empty(shape, pin_memory=is_pinned)
        self._classes = (
            torch.empty(len(indices), dtype=torch.int64, pin_memory=is_pinned)
            if spec.num_classes
            else None
        )

    def draw(self, start: int = 0, stop: int | None = None) -> None:
        """Draw rows `start` … `stop` - 1, all by default; other threads may draw other rows."""
        seed, numbers = self._spec.sampling.seed, self._numbers.numpy()
        rows = range(len(self._indices))[start:stop]
        streams = NumpyStreams(seed, "generate")
        for row in rows:
            stream = streams.at(int(self._indices[row]))
            stream.standard_normal(out=numbers[row], dtype=np.float32)
        if self._classes is not None:  # from a counter of its own, whatever noise there is
            labels, classes = NumpyStreams(seed, "generate/label"), self._classes.numpy()
            for row in rows:
                stream = labels.at(int(self._indices[row]))
                classes[row] = stream.integers(self._spec.num_drawn_classes)
            if (chosen := self._spec.sampling.classes) is not None:
                classes[start:stop] = np.array(chosen)[classes[start:stop]]

    def on(self, device: torch.device) -> GeneratorInputs:
        """What was drawn, on `device`, which need not have finished copying pinned memory."""
        numbers = self._numbers.to(device, non_blocking=True)
        classes = self._classes
        if classes is not None:
            classes = classes.to(device, non_blocking=True)
        z, noise = numbers.split([self._spec.z_dim, self._spec.num_noise], 1)
        return self._spec.join(z, noise, classes)


def draw_inputs(
    generator: TeacherGenerator, sampling: Sampling, indices: np.ndarray
) -> GeneratorInputs:
    """Latents, noise and, for a conditional teacher, classes (uniform over all, or over those that
    `sampling` names) of the samples `indices` [n], each sample's from its own counter (seed,
    index), on the generator's device.
    """
    drawn = DrawnInputs(InputSpec.of(generator, sampling), indices)
    drawn.draw()
    return drawn.on(next(generator.parameters()).device)


def draw_on_device(spec: InputSpec, indices: np.ndarray, device: torch.device) -> GeneratorInputs:
    """Inputs of the samples `indices` [n], one after the other, drawn on `device` without waiting
    for it.

    They come in blocks of `DEVICE_BLOCK` samples, each from a generator of (seed, block): sample
    *i* is a function of seed, *i* and the kind of device, whichever samples are drawn beside it. It
    is not the sample *i* of a pool.

    Raises:
        ValueError: for indices that do not follow one another.
    """
    if (np.diff(indices) != 1).any():
        raise ValueError("a device draws samples that follow one another")
    first, last = int(indices[0]), int(indices[-1])
    start = first // DEVICE_BLOCK
    blocks = [_draw_block(spec, block, device) for block in range(start, last // DEVICE_BLOCK + 1)]
    rows = slice(first - start * DEVICE_BLOCK, last + 1 - start * DEVICE_BLOCK)
    z, noise, classes = (torch.cat(parts)[rows] for parts in zip(*blocks, strict=True))
    if spec.sampling.classes is not None:
        classes = _on_device(spec.sampling.classes, device)[classes]
    return spec.join(z, noise, classes if spec.num_classes else None)


@lru_cache(maxsize=8)
def _on_device(classes: tuple[int, ...], device: torch.device) -> Tensor:
    """`classes` as a tensor, copied once: a copy waits for the device."""
    return torch.tensor(classes, device=device)


def _draw_block(spec: InputSpec, block: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """z, noise and classes; noise last, so that what a sample shows does not depend on it."""
    generator = torch_generator(spec.sampling.seed, "generate/device", block, device)
    z = torch.randn(DEVICE_BLOCK, spec.z_dim, generator=generator, device=device)
    num_classes, shape = max(spec.num_drawn_classes, 1), (DEVICE_BLOCK,)
    classes = torch.randint(num_classes, shape, generator=generator, device=device)
    noise = torch.randn(DEVICE_BLOCK, spec.num_noise, generator=generator, device=device)
    return z, noise, classes

"""Index -> sample: draws latents and noise, runs the generator, pools its features.

Sample *i* is a function of `Sampling` and *i*, whoever asks for it: `generate/render.py` for a
pool, `train/online.py` for a training that renders as it goes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pipeline.seeding import numpy_generator
from pipeline.teacher.description import Sampling
from pipeline.teacher.features import captured, pool_features, select
from pipeline.teacher.interface import Noise, NoiseMode, TeacherGenerator
from shards.schema import W


@dataclass(frozen=True)
class Samples:
    """n samples, on the generator's device."""

    image: Tensor
    """uint8 [n, 3, R, R]."""
    ws: Tensor
    """Mapped latents, float32 [n, copies, w_dim]."""
    classes: Tensor | None
    """int64 [n] on the CPU, for a conditional teacher."""
    features: Mapping[str, Tensor]
    """Unpooled features [n, C, r, r] by name."""

    @property
    def w(self) -> Tensor:
        """The first copy of the mapped latents, [n, w_dim]."""
        return self.ws[:, 0]

    def pooled(self, names: Sequence[str]) -> Tensor:
        """Spatial means of the features `names`, `w` among them, end to end, float32 [n, Σ C] (Yang
        et al. 2022, Eq. 4).
        """
        return pool_features(select(self.features, self.ws, names))


@torch.inference_mode()
def draw_samples(
    generator: TeacherGenerator, sampling: Sampling, indices: np.ndarray, features: Sequence[str]
) -> Samples:
    """Render the samples `indices` [n], and keep the named features of them."""
    device = next(generator.parameters()).device
    inputs = draw_inputs(generator, sampling, indices)
    noise, labels = inputs.noise, inputs.one_hot(generator.arch.num_classes)
    with captured(generator.feature_root, [name for name in features if name != W]) as found:
        output = generator(
            inputs.z.to(device),
            noise if isinstance(noise, str) else [map_.to(device) for map_ in noise],
            labels=None if labels is None else labels.to(device),
            truncation_psi=sampling.truncation_psi,
            truncation_cutoff=sampling.truncation_cutoff,
        )
    return Samples(_to_pixels(output.image), output.ws, inputs.classes, found)


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


def draw_inputs(generator: TeacherGenerator, sampling: Sampling, indices: np.ndarray) -> Inputs:
    """Latents, noise and, for a conditional teacher, classes (uniform), each sample's from its own
    counter (seed, index).
    """
    arch = generator.arch
    resolutions = generator.noise_resolutions if sampling.noise == "random" else []
    sizes = [arch.z_dim, *(r * r for r in resolutions)]
    draws, classes = [], []
    for index in indices:
        counter = numpy_generator(sampling.seed, "generate", int(index))
        draws.append(counter.standard_normal(sum(sizes), dtype=np.float32))
        if arch.num_classes:  # from a counter of its own, whatever noise there is
            labels = numpy_generator(sampling.seed, "generate/label", int(index))
            classes.append(int(labels.integers(arch.num_classes)))
    z, *maps = torch.from_numpy(np.stack(draws)).split(sizes, 1)
    noise: Noise = [map_.reshape(-1, 1, r, r) for map_, r in zip(maps, resolutions, strict=True)]
    if sampling.noise != "random":
        mode: NoiseMode = "const" if sampling.noise == "const" else "none"
        noise = mode
    return Inputs(z, noise, torch.tensor(classes) if classes else None)


def _to_pixels(image: Tensor) -> Tensor:
    pixels = (image.clamp(-1, 1) * 127.5 + 127.5).round().to(torch.uint8)
    # shards hold RGB
    return pixels.expand(-1, 3, -1, -1) if pixels.shape[1] == 1 else pixels

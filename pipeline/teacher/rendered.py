"""GeneratorInputs -> samples: runs the generator and pools its features.

A sample is a function of its inputs, whoever asks for it: `generate/render.py` for a pool,
`train/online.py` for a training that renders as it goes. Neighbours: `draws.py` draws them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.teacher.description import Sampling
from pipeline.teacher.draws import GeneratorInputs
from pipeline.teacher.features import captured, pool_features, select
from pipeline.teacher.interface import GeneratorOutput, TeacherGenerator
from shards.schema import W


@dataclass(frozen=True)
class RenderedSamples:
    """n samples, on the generator's device."""

    image: Tensor
    """uint8 [n, 3, R, R]."""
    ws: Tensor
    """Mapped latents, float32 [n, copies, w_dim]."""
    is_finite: Tensor
    """bool []: whether that holds for every pixel before it was rounded."""
    features: Mapping[str, Tensor]
    """Unpooled features [n, C, r, r] by name."""

    @property
    def w(self) -> Tensor:
        """The first copy of the mapped latents, [n, w_dim]."""
        return self.ws[:, 0]

    def pooled(self, names: Sequence[str]) -> Tensor:
        """Spatial means of the features `names` end to end, float32 [n, Σ C]."""
        return pool_features(select(self.features, self.ws, names))


@torch.inference_mode()
def render_samples(
    generator: TeacherGenerator,
    sampling: Sampling,
    inputs: GeneratorInputs,
    features: Sequence[str],
) -> RenderedSamples:
    """Render `inputs`, which are on the generator's device, and keep the named features of them."""
    names = [name for name in features if name != W]
    with captured(generator.feature_root, names) as found:
        output = run_generator(generator, sampling, inputs)
    is_finite = output.image.isfinite().all()
    return RenderedSamples(to_pixels(output.image), output.ws, is_finite, found)


def run_generator(
    generator: TeacherGenerator, sampling: Sampling, inputs: GeneratorInputs
) -> GeneratorOutput:
    """What `generator` makes of `inputs`, truncated as `sampling` says."""
    output: GeneratorOutput = generator(
        generator.truncate_latents(inputs.z, sampling.truncation_psi),
        inputs.noise,
        labels=inputs.one_hot(generator.arch.num_classes),
        truncation_psi=sampling.truncation_psi,
        truncation_cutoff=sampling.truncation_cutoff,
    )
    return output


def to_pixels(image: Tensor) -> Tensor:
    """Grey, RGB or RGBA images in [-1, 1] -> uint8 [n, 3, R, R]: shards hold RGB."""
    pixels = (image.clamp(-1, 1) * 127.5 + 127.5).round().to(torch.uint8)
    return pixels.expand(-1, 3, -1, -1) if pixels.shape[1] == 1 else pixels[:, :3]

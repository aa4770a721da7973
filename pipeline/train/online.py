"""Synthetic samples rendered as a training goes, in place of a pool: no sample is seen twice."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from pipeline.config.hardware import CompileMode
from pipeline.engine.gpu import choose_compile_mode
from pipeline.teacher.description import Sampling
from pipeline.teacher.draws import GeneratorInputs, InputSpec, draw_inputs, draw_on_device
from pipeline.teacher.features import capture, pool_features, select
from pipeline.teacher.interface import TeacherGenerator
from pipeline.teacher.rendered import run_generator, to_pixels
from shards.schema import W


class OnlineSamples:
    """Samples of a teacher on the device of the training, with some features.

    Sample *i* is a function of sampling, *i* and the kind of device. On a CPU it is the one that a
    pool of the same sampling has at *i*, but for the rounding of what is stored. A GPU draws
    latents and noise by itself, so that a step copies nothing and never waits: other samples, of
    the same distribution. A training's record says where its samples were drawn.

    The generator, in evaluation mode and on its device, is from now on for this alone. Compiled,
    rendering, conversion to pixels and pooling of the `features` (name, channels) are one graph.
    """

    def __init__(
        self,
        generator: TeacherGenerator,
        sampling: Sampling,
        features: Sequence[tuple[str, int]],
        render_batch: int,
        compile_networks: CompileMode = "off",
    ) -> None:
        self.generator = generator
        self.device = next(generator.parameters()).device
        self.block_channels = [channels for _, channels in features]
        self._sampling = sampling
        self._features = [name for name, _ in features]
        self._render_batch = render_batch
        names = [name for name in self._features if name != W]
        # once and for all: torch.compile does not guard against hooks that change
        self._found, _ = capture(generator.feature_root, names)
        mode = choose_compile_mode(compile_networks, self.device)
        self._run = (
            self._forward
            if mode is None
            else torch.compile(self._forward, mode=mode, dynamic=False)
        )

    @property
    def origin(self) -> str:
        """Where the samples are drawn, which is part of which samples they are."""
        return f"drawn on {self.device.type}"

    @torch.no_grad()
    def render(self, indices: np.ndarray) -> tuple[Tensor, Tensor]:
        """Images uint8 [n, 3, R, R] and pooled features float32 [n, Σ C] of the samples `indices`,
        on a GPU one after the other.
        """
        images, pooled = [], []
        for start in range(0, len(indices), self._render_batch):
            inputs = self._draw(indices[start : start + self._render_batch])
            image, features = self._run(inputs)
            images.append(image.clone())  # the next call of what is compiled may overwrite it
            pooled.append(features.clone())
        return torch.cat(images), torch.cat(pooled)

    def _draw(self, indices: np.ndarray) -> GeneratorInputs:
        if self.device.type == "cpu":
            return draw_inputs(self.generator, self._sampling, indices)
        spec = InputSpec.of(self.generator, self._sampling)
        return draw_on_device(spec, indices, self.device)

    def _forward(self, inputs: GeneratorInputs) -> tuple[Tensor, Tensor]:
        output = run_generator(self.generator, self._sampling, inputs)
        pooled = pool_features(select(self._found, output.ws, self._features))
        self._found.clear()  # maps are large
        return to_pixels(output.image), pooled

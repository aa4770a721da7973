"""The views of a step: parameters drawn on the CPU, pixels computed on the device.

Neighbours: `student/views.py` and `student/masked_views.py` have the operations, `data.py` the
images.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pipeline.config.hardware import CompileMode
from pipeline.config.train import TrainConfig
from pipeline.engine.gpu import choose_compile_mode
from pipeline.samples.seeding import torch_generator
from pipeline.student.backbone import Normalise
from pipeline.student.masked_views import choose_views
from pipeline.student.view_size import bring_to_size
from pipeline.student.views import ViewParameters, draw_views
from pipeline.train.method import Method


class StepViews:
    """As many views of a worker's images as the `method` wants, all of a step together: on a GPU, a
    call of anything costs more than its work.
    """

    def __init__(
        self,
        config: TrainConfig,
        method: type[Method],
        device: torch.device,
        *,
        view_size: int,
        rank: int,
        num_workers: int,
        compile_mode: CompileMode = "off",
    ) -> None:
        self._config = config
        self._method = method
        self._rank = rank
        self._num_workers = num_workers
        self._view_size = view_size
        self._augment = choose_views(config.augment, device, view_size)
        self._normalise = Normalise(config.pixel_mean, config.pixel_std).to(device)
        self._pixels = self._make_pixels
        if device.type == "cuda" and choose_compile_mode(compile_mode, device) is not None:
            # never as a CUDA graph, which would write the next step's views over this one's
            self._pixels = torch.compile(self._make_pixels, fullgraph=True, dynamic=False)

    def draw(self, step: int) -> list[Tensor]:
        """Parameters of this worker's views of `step`, of synthetic images first, as
        `ViewParameters` takes them, on the CPU; empty for images as they are.
        """
        config, method = self._config, self._method
        if not config.augment.enabled:
            return []
        generator = torch_generator(config.seed, "augment", step)
        drawn = [
            *(self._draw_synthetic(generator) for _ in range(method.synthetic_views)),
            *(self._draw(config.num_real, generator) for _ in range(method.real_views)),
        ]
        return ViewParameters.concatenate([views for views in drawn if views is not None]).tensors

    def make(
        self, synthetic: Tensor | None, real: Tensor | None, drawn: Sequence[Tensor]
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Views of both domains, each normalised images [n, 3, V, V].

        Args:
            synthetic: images uint8 [n, 3, S, S] on the device, None without any.
            real: likewise, of any size.
            drawn: what `draw` returned, on the device.
        """
        method = self._method
        domains = [(synthetic, method.synthetic_views), (real, method.real_views)]
        images = [part for part, count in domains if part is not None for _ in range(count)]
        views: tuple[Tensor, ...] = self._pixels(images, drawn).split([len(x) for x in images])
        num_synthetic = 0 if synthetic is None else method.synthetic_views
        return views[:num_synthetic], views[num_synthetic:]

    def _draw_synthetic(self, generator: torch.Generator) -> ViewParameters | None:
        """In the release, one view for all synthetic images."""
        size = self._config.num_synthetic
        if self._config.variant != "release" or not size:
            return self._draw(size, generator)
        return draw_views(self._config.augment, 1, generator).repeated(size // self._num_workers)

    def _draw(self, global_size: int, generator: torch.Generator) -> ViewParameters | None:
        """Of the global batch, this worker's part; None of no images."""
        if not global_size:
            return None
        size = global_size // self._num_workers
        start = self._rank * size
        return draw_views(self._config.augment, global_size, generator).rows(start, start + size)

    def _make_pixels(self, images: list[Tensor], drawn: Sequence[Tensor]) -> Tensor:
        if drawn:
            pixels = self._augment(images, ViewParameters(*drawn))
        else:
            sized = [bring_to_size(part, self._view_size) for part in images]
            pixels = torch.cat(sized).float().div_(255)
        normalised: Tensor = self._normalise(pixels)
        return normalised

"""Representations of a student in training, without a trace of it: the backbone is in evaluation
mode for so long, so that no statistics of batch normalisation move; nothing has a gradient; torch's
random numbers are put back as they were.

What is compiled of a training is its whole step and not the backbone, which is called as it is:
nothing is compiled anew. Neighbours: `images.py` has the rows, `measure.py` what is made of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from pipeline.config.train import TrainConfig
from pipeline.engine.gpu import choose_precision
from pipeline.student.backbone import Normalise
from pipeline.train.monitor.images import Shared

Pixels = Callable[[slice], Tensor]
"""Some rows of a worker's part -> images uint8 or in [0, 1], [n, 3, V, V], on the device."""
_BATCH = 256


class Embedder:
    """Embeds images in the precision of a training."""

    def __init__(self, config: TrainConfig, device: torch.device) -> None:
        self.device = device
        self._precision = choose_precision(config.precision, device)
        self._normalise = Normalise(config.pixel_mean, config.pixel_std).to(device)

    def embed(self, backbone: nn.Module, pixels: Pixels, shared: Shared) -> Tensor:
        """Representations [N, D] float32 of all workers' rows, on the device. All workers call it
        at once.
        """
        num_rows = shared.part.stop - shared.part.start
        is_half = self._precision != torch.float32
        with (
            undisturbed(backbone, self.device),
            torch.autocast(self.device.type, self._precision, enabled=is_half),
        ):
            parts = [
                backbone(self._normalise(pixels(slice(start, start + _BATCH)))).float()
                for start in range(0, num_rows, _BATCH)
            ]
            return shared.joined(torch.cat(parts))


@contextmanager
def undisturbed(network: nn.Module, device: torch.device) -> Iterator[None]:
    """Within the block `network` is in evaluation mode and has no gradients; behind it each of its
    modules is in the mode in which it was, and random numbers of torch go on where they were.
    """
    modes = [(module, module.training) for module in network.modules()]
    devices = [device] if device.type == "cuda" else []
    # not inference_mode: a tensor that a module keeps for later steps could have no gradient
    with torch.random.fork_rng(devices=devices), torch.no_grad():
        network.eval()
        try:
            yield
        finally:
            for module, is_training in modes:
                module.training = is_training

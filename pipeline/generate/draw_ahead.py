"""Inputs of batch after batch, for a GPU drawn in threads while earlier batches are rendered.

numpy fills arrays without holding the interpreter, so that threads draw beside one another and
beside the launches of a GPU's kernels. Neighbours: `render.py` renders what is drawn here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import torch

from pipeline.teacher.draws import DrawnInputs, GeneratorInputs, InputSpec

NUM_AHEAD = 2
"""Batches that are drawn while one is rendered."""
THREADS = 4
"""Of a GPU: at CIFAR size one draws some 30,000 samples/s, less than a GPU may render."""


class InputDrawer:
    """Draws the inputs of batches on the CPU, for a generator on `device`; for a GPU into
    page-locked memory. Without threads a batch is drawn when it is asked for: on a CPU there is no
    gain in one beside the one that renders, whose work takes 30 times as long.
    """

    def __init__(self, spec: InputSpec, device: torch.device, num_threads: int) -> None:
        self._spec = spec
        self._device = device
        self._num_threads = num_threads
        self._threads = ThreadPoolExecutor(max(num_threads, 1), "draw")

    def close(self) -> None:
        """Draw no more."""
        self._threads.shutdown(cancel_futures=True)

    def draw(self, batches: Iterable[np.ndarray]) -> Iterator[GeneratorInputs]:
        """Inputs of each of `batches`, indices [n] of samples, in order and on the device."""
        ahead: deque[tuple[DrawnInputs, list[Future[None]]]] = deque()
        for indices in batches:
            ahead.append(self._begin(indices))
            if len(ahead) > (NUM_AHEAD if self._num_threads else 0):
                yield self._end(*ahead.popleft())
        while ahead:
            yield self._end(*ahead.popleft())

    def _begin(self, indices: np.ndarray) -> tuple[DrawnInputs, list[Future[None]]]:
        drawn = DrawnInputs(self._spec, indices, is_pinned=self._device.type == "cuda")
        if not self._num_threads:
            drawn.draw()
            return drawn, []
        bounds = np.linspace(0, len(indices), self._num_threads + 1).astype(int).tolist()
        pairs = pairwise(bounds)
        return drawn, [self._threads.submit(drawn.draw, start, stop) for start, stop in pairs]

    def _end(self, drawn: DrawnInputs, drawing: list[Future[None]]) -> GeneratorInputs:
        for part in drawing:
            part.result()
        return drawn.on(self._device)

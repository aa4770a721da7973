"""What the loop trains and the stage tests: a network for a task, with its images."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.samples.seeding import torch_generator

B = TypeVar("B")
TestReport = Callable[[int], None]
"""Called with the number of images tested so far."""


class Task(ABC, Generic[B]):
    """A network on its device, its train images and its test; `B` is what a step reads."""

    network: nn.Module
    num_train: int
    """Images to train on."""
    decays_all: bool
    """Whether weight decay is on every parameter, and not on matrices and kernels only."""

    @abstractmethod
    def load(self, rows: np.ndarray, step: int) -> B:
        """What `step` trains on, from train images [batch] int64, on the CPU; a function of its
        arguments and the seed. Runs in a thread.

        Raises:
            UserError: for a file that is damaged.
        """

    @abstractmethod
    def loss(self, batch: B) -> Tensor:
        """Scalar float32; may draw from torch's global generator."""

    @abstractmethod
    def evaluate(self, report: TestReport) -> dict[str, float]:
        """Scores of the network on the test images, by name. It is left in evaluation mode."""


@contextmanager
def seeded(seed: int, purpose: str, index: int, device: torch.device) -> Iterator[None]:
    """Inside the block, torch's global generators, from which torchvision's networks draw, are a
    function of the arguments; outside they go on as if it had not been.
    """
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(torch_generator(seed, purpose, index).initial_seed())
        yield
